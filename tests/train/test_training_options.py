"""Members trained apart, bad records, variants, refusals: what a training can be told to do."""

import json
import logging
import os
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import training_runs as runs
from training_runs import SMALL, arrays, one_sentence, same

from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.train.engine import run_folder

SCRIPT, TEST = "train/N23SISD.py", "test/N23SISD.py"
RUN = "Decoding checkpoint/N2N3_SISD"


@pytest.fixture(scope="module")
def sequential(cohort, tmp_path_factory):
    """Run folder of two members of two epochs, one after the other, with two epochs of weights kept."""
    results = tmp_path_factory.mktemp("sequential")
    options = ["--set", "train.keep_epochs=1"]
    assert runs.call(SCRIPT, *SMALL, "--data", cohort, "--results", results, *options) == 0
    return results / RUN


@pytest.fixture
def copied(sequential, tmp_path):
    """A copy of that run; returns results folder and run folder."""
    shutil.copytree(sequential, tmp_path / "copy" / RUN)
    return tmp_path / "copy", tmp_path / "copy" / RUN


def content(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.slow
def test_log_and_tensorboard_hold_every_epoch(sequential):
    rows = pd.read_csv(sequential / "log.csv")
    assert list(rows) == ["member", "epoch", "loss", "train_top1"]
    assert rows[["member", "epoch"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert (rows["loss"] > 1.8).all() and rows["train_top1"].between(0, 1).all()
    assert len(set(rows["loss"])) == 4, "members and epochs differ"
    for member in (0, 1):
        own = rows[rows["member"] == member]
        found = runs.scalars(sequential / "tensorboard" / f"member_{member}")
        assert sorted(found) == ["loss", "train_top1"]
        for name, values in found.items():
            steps, numbers = zip(*values, strict=True)
            assert steps == (0, 1)
            np.testing.assert_allclose(numbers, own[name], rtol=1e-6)


def test_only_the_last_epochs_are_kept(sequential):
    """train.keep_epochs=1 of 2 epochs; the last epoch's weights are the ensemble's."""
    kept = sorted(path.name for path in (sequential / "epochs").iterdir())
    assert kept == ["member_0_epoch_0001.npz", "member_1_epoch_0001.npz"]
    ensemble = arrays(sequential / "ensemble.npz")
    for member in (0, 1):
        weights = arrays(sequential / "epochs" / f"member_{member}_epoch_0001.npz")
        for name, array in weights.items():
            np.testing.assert_array_equal(ensemble[f"individual_models/{member}/{name}"], array)


@pytest.mark.parametrize(("keep", "left"), [(0, [3, 4]), (1, [5]), (2, [4, 5]), (9, [3, 4, 5])])
def test_a_run_that_keeps_no_epochs_removes_none(keep, left, tmp_path):
    """keep_epochs may change when a run is continued; 0, the default, says nothing about what was kept before."""
    (tmp_path / "epochs").mkdir()
    for epoch in (3, 4):
        (tmp_path / "epochs" / f"member_0_epoch_{epoch:04d}.npz").touch()
    run = SimpleNamespace(folder=tmp_path, settings=SimpleNamespace(train=SimpleNamespace(keep_epochs=keep)))
    run_folder.RunFolder.keep_epoch(run, 0, 5, lambda: {"weight": np.zeros(2)})
    found = sorted(path.name for path in (tmp_path / "epochs").iterdir())
    assert found == [f"member_0_epoch_{epoch:04d}.npz" for epoch in left]


@pytest.mark.slow
def test_members_trained_by_processes_side_by_side_equal_the_sequential_run(cohort, sequential, tmp_path, call_script):
    """Two processes at once, with other hash seeds: the same bits; nothing is joined before all are there."""
    options = [*SMALL, "--data", cohort, "--results", tmp_path, "--set", "train.keep_epochs=1"]
    folder = tmp_path / RUN
    started = [runs.start(SCRIPT, *options, "--member", i, PYTHONHASHSEED=str(i + 1)) for i in (0, 1)]
    for process in started:
        stderr = process.communicate(timeout=300)[1]
        assert process.returncode == 0, stderr
    assert not (folder / "ensemble.npz").exists() and not (folder / "run.json").exists()

    code, stderr = call_script(TEST, "--quick", "--data", cohort, "--results", tmp_path)
    assert code == 2
    one_sentence(stderr, "unfinished", "--collect")

    away = tmp_path / "away.npz"
    (folder / "member_1.npz").rename(away)
    code, stderr = call_script(SCRIPT, *options, "--collect")
    assert code == 2
    one_sentence(stderr, "member 1 has 0 of 2 epochs")
    away.rename(folder / "member_1.npz")
    code, stderr = call_script(SCRIPT, *options, "--collect", "--set", "train.epochs=3")
    assert code == 2
    one_sentence(stderr, "member 0 has 2 of 3 epochs", "member 1 has 2 of 3 epochs")

    before = content(folder)
    for wrong, words in [
        (["--member", "9"], ["--member 9", "0-1"]),
        (["--member", "-1"], ["--member -1", "0-1"]),
        (["--member", "0", "--collect"], ["--collect", "--member"]),
        (["--member", "0", "--restart"], ["--restart", "--member"]),
        (["--collect", "--restart"], ["--restart", "--collect"]),
        (["--member", "9", "--restart"], ["--member 9"]),
    ]:
        code, stderr = call_script(SCRIPT, *options, *wrong)
        assert code == 2
        one_sentence(stderr, *words)
    assert content(folder) == before, "a refused call changes nothing"

    code, stderr = call_script(SCRIPT, *options, "--collect")
    assert code == 0, stderr
    assert same(folder / "ensemble.npz", sequential / "ensemble.npz")
    for name in ("log.csv", "settings.yaml"):
        mine, theirs = ((place / name).read_text() for place in (folder, sequential))
        assert mine == theirs
    record = json.loads((folder / "run.json").read_text())
    assert record["training_trials"] == 120 and record["simulated"] is True
    assert pd.read_csv(folder / "log_member_1.csv")["member"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("part", "entry", "value", "said"),
    [
        ("settings", "train.learning_rate", 0.5, "train.learning_rate (0.5 before, now 0.001)"),
        ("notes", "data_fingerprint", "0" * 64, "other data"),
        ("notes", "training_trials", 119, "other data"),
        ("notes", "card_fingerprint", "0" * 64, "other data"),
    ],
)
def test_a_member_trained_with_other_settings_or_data_is_not_joined(
    part, entry, value, said, copied, cohort, call_script
):  # fmt: skip
    """Two processes with other settings may start in one empty folder at once: the states tell them apart."""
    results, folder = copied
    header, stored = checkpoint.read_arrays(folder / "member_1.npz")
    header[part][entry] = value
    checkpoint.write_arrays(folder / "member_1.npz", header, stored)
    (folder / "ensemble.npz").unlink()
    code, stderr = call_script(SCRIPT, *SMALL, "--data", cohort, "--results", results, "--collect")
    assert code == 2
    one_sentence(stderr, "member_1.npz", said)
    assert not (folder / "ensemble.npz").exists()


def test_what_does_not_fit_a_run_is_refused_and_nothing_is_written(copied, cohort, call_script):
    results, folder = copied
    places = [*SMALL, "--data", cohort, "--results", results]
    before = content(folder)
    for wrong, words in [
        (["--set", "train.epochs=1"], ["was trained for 2 epochs, train.epochs asks for 1", "--restart"]),
        (["--set", "model.class_loss=logits"], ["model.class_loss (published before, now logits)", "--results"]),
        (["--validation-subjects", "1"], ["train.validation_subjects (0 before, now 1)", "--results"]),
    ]:
        code, stderr = call_script(SCRIPT, *places, *wrong)
        assert code == 2
        one_sentence(stderr, *words)
    assert content(folder) == before

    settings = (folder / "settings.yaml").read_bytes()
    (folder / "settings.yaml").unlink()
    code, stderr = call_script(SCRIPT, *places)
    assert code == 2
    one_sentence(stderr, "settings.yaml is missing", "--restart")
    (folder / "settings.yaml").write_bytes(settings)

    for path in folder.glob("member_*.npz"):  # an ensemble alone is a run too
        path.rename(path.with_suffix(".away"))
    code, stderr = call_script(SCRIPT, *places, "--set", "train.seed=5")
    assert code == 2
    one_sentence(stderr, "train.seed (1642 before, now 5)", "--results")
    for path in folder.glob("member_*.away"):
        path.rename(path.with_suffix(".npz"))

    shutil.copy(folder / "ensemble.npz", folder / "member_0.npz")
    code, stderr = call_script(SCRIPT, *places)
    assert code == 2
    one_sentence(stderr, "member_0.npz", "holds a whole checkpoint of N23SISD", "--restart")


def test_a_member_that_another_process_trains_is_left_to_it(copied, cohort, call_script):
    """The same command twice, one member twice, --restart beside a training: refused, nothing is changed."""
    results, folder = copied
    options = [*SMALL, "--data", cohort, "--results", results, "--set", "train.keep_epochs=1"]
    before = content(folder)
    with run_folder.lock_members(folder, [1]):  # as a process does while it trains
        for more in (["--set", "train.epochs=3"], ["--set", "train.epochs=3", "--member", 1], ["--restart"]):
            code, stderr = call_script(SCRIPT, *options, *more)
            assert code == 2
            one_sentence(stderr, ".member_1.lock", "another process is training this member here", "--results")
    assert content(folder) == before


def test_what_a_kill_left_of_a_file_is_swept_away(copied, cohort, call_script):
    """But nothing of another member, which another process may be writing."""
    results, folder = copied
    left = [folder / f".{name}.4711.tmp.npz" for name in ("member_0.npz", "best_member_0.npz", "member_1.npz")]
    for path in left:
        path.write_bytes(b"half a state")
    (folder / "ensemble.npz").unlink()
    options = [*SMALL, "--data", cohort, "--results", results, "--set", "train.keep_epochs=1"]
    assert call_script(SCRIPT, *options, "--member", 0)[0] == 0
    assert [path.exists() for path in left] == [False, False, True]
    assert call_script(SCRIPT, *options)[0] == 0
    assert not left[-1].exists() and (folder / "ensemble.npz").is_file()


def test_other_data_are_refused(copied, cohort, call_script, tmp_path):
    """Of another number of trials, or fingerprint."""
    results, folder = copied
    for key, value in (("data_fingerprint", "0" * 64), ("training_trials", 119)):
        header, stored = checkpoint.read_arrays(folder / "member_0.npz")
        header["notes"][key] = value
        checkpoint.write_arrays(folder / "member_0.npz", header, stored)
        code, stderr = call_script(SCRIPT, *SMALL, "--data", cohort, "--results", results)
        assert code == 2
        one_sentence(stderr, "member_0.npz was trained on other data", f"{value}, now", "--skip-bad")
        shutil.copy(folder / "member_1.npz", folder / "member_0.npz")


def test_labels_corrected_in_the_middle_of_a_file_are_other_data(copied, cohort, call_script, tmp_path):
    """The same size, the same beginning and end, the same time: the run went on with the mixture."""
    results, folder = copied
    data = shutil.copytree(cohort, tmp_path / "corrected")
    file = sorted(data.glob("SI Main Train_tfrecords/N2N3/sleep*"))[0]
    about, before = file.stat(), content(folder)
    records = [bytes(record.numpy()) for record in tf.data.TFRecordDataset(str(file))]
    middle = len(records) // 2
    records[middle], records[middle + 1] = records[middle + 1], records[middle]
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record)
    assert file.stat().st_size == about.st_size
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    for more in ([], ["--set", "train.epochs=3"]):
        code, stderr = call_script(SCRIPT, *SMALL, "--data", data, "--results", results, *more)
        assert code == 2
        one_sentence(stderr, "was trained on other data", "data fingerprint")
    assert content(folder) == before


@pytest.mark.parametrize("way", ["moved", "through a link", "files are links"])
def test_the_same_data_elsewhere_are_the_same_data(copied, cohort, call_script, tmp_path, way):
    results, folder = copied
    data, before = tmp_path / "elsewhere", content(folder)
    if way == "moved":
        shutil.copytree(cohort, data)
    elif way == "through a link":
        data.symlink_to(cohort)
    else:
        for number, file in enumerate(p for p in sorted(cohort.rglob("*")) if p.is_file()):
            link = data / file.relative_to(cohort)
            link.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, tmp_path / f"stored_{number}")
            link.symlink_to(tmp_path / f"stored_{number}")
    code, stderr = call_script(SCRIPT, *SMALL, "--data", data, "--results", results)
    assert code == 0, stderr
    assert content(folder) == before


@pytest.mark.slow
def test_weights_that_break_down_cost_nothing_of_the_run(copied, cohort, call_script):
    """An extension from weights that are NaN: one sentence, the batch as evidence, all earlier states there.

    The loss alone would not tell: the compiled ReLU of the class head makes 0 of NaN.
    """
    results, folder = copied
    header, stored = checkpoint.read_arrays(folder / "member_0.npz")
    name = next(k for k in stored if k.endswith("sleep_emb_input/dense_layer1/kernel"))
    stored[name] = np.full_like(stored[name], np.nan)
    checkpoint.write_arrays(folder / "member_0.npz", header, stored)
    before = content(folder)
    places = [*SMALL, "--data", cohort, "--results", results]
    code, stderr = call_script(SCRIPT, *places, "--set", "train.epochs=3", "--set", "train.keep_epochs=1")
    assert code == 2
    one_sentence(
        stderr, "loss or gradients became nan at member 1/2, epoch 3/3, trials 0-31",
        "broken_batch_member_0.npz", "lower the learning rate (now 0.001)",
    )  # fmt: skip
    batch = arrays(folder / "broken_batch_member_0.npz")
    assert batch["sleep"].shape == (32, 200, 55) and batch["label"].shape == (32, 15)
    assert np.isfinite(batch["sleep"]).all() and (batch["label"].sum(axis=1) == 1).all()
    assert np.isnan(batch["loss"]) and batch["first_trial"] == 0
    after = content(folder)
    kept = after[folder / "ensemble_2x2_epochs.npz"]
    assert kept == before[folder / "ensemble.npz"], "the ensemble has another name, as the run was extended"
    for path in before:
        if path.name not in ("ensemble.npz", "settings.yaml", "run.json") and "tensorboard" not in path.parts:
            assert after[path] == before[path], path
    rows = pd.read_csv(folder / "log.csv")
    for name, values in runs.scalars(folder / "tensorboard" / "member_0").items():
        np.testing.assert_allclose([v for _, v in values], rows.loc[rows["member"] == 0, name], rtol=1e-6)
    code, stderr = call_script(TEST, "--quick", "--data", cohort, "--results", results)
    assert code == 2
    one_sentence(stderr, "unfinished")


@pytest.mark.slow
def test_an_exploding_learning_rate_is_one_sentence(cohort, tmp_path, call_script):
    places = [*SMALL, "--data", cohort, "--results", tmp_path]
    code, stderr = call_script(SCRIPT, *places, "--members", "1", "--set", "train.learning_rate=1e30")
    assert code == 2
    one_sentence(stderr, "loss or gradients became nan", "lower the learning rate (now 1e+30)", "--restart")
    folder = tmp_path / RUN
    batch = arrays(folder / "broken_batch_member_0.npz")
    assert batch["sleep"].shape == (32, 200, 55) and batch["first_trial"] > 0
    assert not (folder / "member_0.npz").exists() and not (folder / "ensemble.npz").exists()


@pytest.mark.slow
def test_bad_records_stop_a_training_or_are_listed(cohort, tmp_path, call_script, caplog):
    root = tmp_path / "data"
    damage = runs.corrupted(cohort, root)
    places = [*SMALL, "--data", root, "--members", "1", "--set", "train.epochs=1"]
    folder = root / "SI Main Train_tfrecords" / "N2N3"
    code, stderr = call_script(SCRIPT, *places, "--results", tmp_path / "cut")
    assert code == 2
    one_sentence(stderr, "sleep_subject_test_0.tfrecord, record 28", "truncated")
    whole = folder / "sleep_subject_test_0.tfrecord"
    cut = whole.read_bytes()
    whole.write_bytes(cut[:-400])

    # One file at a time, and the whole of it in the first batch: which one is named is no matter of chance.
    for name, (record, words) in damage.items():
        alone = tmp_path / name / "SI Main Train_tfrecords" / "N2N3"
        alone.mkdir(parents=True)
        shutil.copy(folder / name, alone)
        code, stderr = call_script(
            SCRIPT, *places, "--data", tmp_path / name, "--results", tmp_path / "refused",
            "--set", "train.batch_size=60",
        )  # fmt: skip
        assert code == 2
        one_sentence(stderr, f"{name}, record {record}", words)
    assert not list((tmp_path / "refused").rglob("*.npz"))

    whole.write_bytes(cut)
    results = tmp_path / "results"
    code, stderr = call_script(SCRIPT, *places, "--results", results, "--skip-bad", "--validation-subjects", "1")
    assert code == 0, stderr
    record = json.loads((results / RUN / "run.json").read_text())
    found = {(row["file"].rsplit("/", 1)[-1], row["record"]): row["reason"] for row in record["skipped"]}
    expected = {(name, place): words for name, (place, words) in damage.items()}
    expected["sleep_subject_test_0.tfrecord", 28] = "truncated"
    assert found.keys() == expected.keys()
    assert all(words in found[key] for key, words in expected.items())
    assert record["training_trials"] + record["validation_trials"] == 120 - 4 - 2
    assert "5 bad records left out" in caplog.text or caplog.text.count("bad records left out") == 2

    # A test of this network on the subject it was trained on says so, and elsewhere not.
    assert "subject_test_0" in record["training_subjects"]
    code, stderr = call_script(TEST, "--quick", "--data", root, "--results", results)
    assert code == 0, stderr
    summary = json.loads((results / "N23SISD" / "summary.json").read_text())
    assert any("trained on test subjects subject_test_0: this is no test" in w for w in summary["warnings"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["model.contrastive=false"], "sleep with awake trials"),
        (["model.awake=false", "model.class_loss=logits"], "sleep alone"),
    ],
)
@pytest.mark.slow
def test_variants_train_and_test_end_to_end(options, said, cohort, tmp_path, call_script, caplog):
    changes = [word for option in options for word in ("--set", option)]
    places = ["--data", cohort, "--results", tmp_path]
    one = ["--members", "1", "--set", "train.epochs=1"]
    caplog.set_level(logging.INFO)
    code, stderr = call_script("train/N23SIMD.py", *SMALL, *places, *one, *changes)
    assert code == 0, stderr
    assert said in caplog.text and f"N2N3/{'Whole' if 'with' in said else 'sleep'}*" in caplog.text
    stored = checkpoint.read_header(tmp_path / "Decoding checkpoint" / "N2N3_SIMD" / "ensemble.npz")["model"]
    assert stored["awake"] is ("with" in said) and stored["contrastive"] is ("with" not in said)
    names = arrays(tmp_path / "Decoding checkpoint" / "N2N3_SIMD" / "ensemble.npz")
    assert any("/image_emb_input/" in name for name in names) is ("with" in said)
    code, stderr = call_script("test/N23SIMD.py", *SMALL, *places)
    assert code == 0, stderr
    summary = json.loads((tmp_path / "N23SIMD" / "summary.json").read_text())
    assert summary["overall"]["n"] == 40 and summary["simulated"] is True
    # The other variant of the network does not get into the same folder.
    before = content(tmp_path / "Decoding checkpoint")
    code, stderr = call_script("train/N23SIMD.py", *SMALL, *places, *one)
    assert code == 2
    one_sentence(stderr, f"{options[0].split('=')[0]} (False before, now True)", "--results DIR")
    assert content(tmp_path / "Decoding checkpoint") == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--members", "0"], ["members = 0", "greater than 0"]),
        (["--set", "members=1.5"], ["members = 1.5", "integer"]),
        (["--devices", ","], ["--devices ','", "CPU:0"]),
        (["--devices", "CPU:0"], ["--devices CPU:0", "two or more"]),
        (["--devices", "cpu:0,GPU:7"], ["no device 'GPU:7'", "there are CPU:0"]),
        (["--devices", "CPU:0,/device:CPU:0"], ["stands there twice"]),
        (["--validation-subjects", "4"], ["train.validation_subjects = 4", "of 4 training subjects"]),
        (["--validation-subjects", "-1"], ["train.validation_subjects = -1"]),
        (["--set", "model.channels=28"], ["model.channels is 28, the card has 55"]),
        (["--set", "model.classes=10"], ["model.classes is 10, the card has 15"]),
        (["--set", "train.keep_epochs=-1"], ["train.keep_epochs = -1"]),
    ],
)
def test_wrong_options_are_one_sentence(options, words, cohort, tmp_path, call_script):
    code, stderr = call_script(SCRIPT, *SMALL, "--data", cohort, "--results", tmp_path, *options)
    assert code == 2
    one_sentence(stderr, *words)
    assert not list(tmp_path.rglob("*"))


def test_a_number_of_members_that_is_none_is_refused_by_the_parser(cohort, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        runs.call(SCRIPT, *SMALL, "--data", cohort, "--results", tmp_path, "--members", "1.5")
    assert ended.value.code == 2
    assert "argument --members: invalid int value: '1.5'" in runs.last_line(capsys.readouterr().err)


def test_ctrl_c_tells_what_is_kept_and_how_to_go_on(cohort, copied, tmp_path, call_script, monkeypatch, caplog):
    """--restart would forget it all if the same command were given again: that is said."""
    from sleep_interpreter.train.engine.member_trainer import MemberTrainer

    def interrupted(self, batches, bar, evidence=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(MemberTrainer, "epoch", interrupted)
    caplog.set_level(logging.INFO)
    results, folder = copied
    places = [*SMALL, "--data", cohort, "--results", results]
    code, stderr = call_script(SCRIPT, *places, "--set", "train.epochs=3")
    assert code == 130 and "stopped by Ctrl-C" in stderr
    assert f"finished epochs by member, kept in {os.path.relpath(folder)}: 2, 2" in caplog.text or (
        f"kept in {folder}: 2, 2" in caplog.text
    )
    assert "--restart" not in caplog.text
    code, stderr = call_script(SCRIPT, *places, "--restart")
    assert code == 130 and "go on without --restart, which would forget them" in caplog.text
    assert not list(folder.glob("*member*.npz")) and not list(folder.glob("ensemble*.npz"))


@pytest.mark.slow
def test_a_restart_that_fails_leaves_the_last_good_result(cohort, copied, call_script, monkeypatch):
    """Interrupted twice, then unable to write; only a new complete result takes its place."""
    from sleep_interpreter.train.engine.member_trainer import MemberTrainer

    results, folder = copied
    before = {path.name: path.read_bytes() for path in folder.glob("*.npz")}
    aside, places = folder / run_folder.ASIDE, [*SMALL, "--data", cohort, "--results", results]
    epoch, calls = MemberTrainer.epoch, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) % 2 == 0:
            raise KeyboardInterrupt
        return epoch(self, *arguments)

    monkeypatch.setattr(MemberTrainer, "epoch", interrupted)
    for _ in range(2):  # each writes the state of one epoch
        assert call_script(SCRIPT, *places, "--restart")[0] == 130
        assert (folder / "member_0.npz").is_file() and not (folder / "ensemble.npz").exists()
        assert {path.name: path.read_bytes() for path in aside.glob("*.npz")} == before
    monkeypatch.setattr(MemberTrainer, "epoch", epoch)
    assert call_script(SCRIPT, *places)[0] == 0
    assert not aside.exists() and (folder / "ensemble.npz").is_file()


@pytest.mark.slow
def test_a_full_disk_is_a_sentence_and_costs_nothing(cohort, copied, call_script, tmp_path):
    _, folder = copied
    disk = tmp_path / "disk"
    disk.mkdir()
    size = 2 * sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // 1024
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(disk)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a full disk needs the right to mount one")
    try:
        shutil.copytree(folder, disk / RUN)
        (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - 20_000))
        before = {path.name: path.read_bytes() for path in (disk / RUN).glob("*.npz")}
        code, stderr = call_script(SCRIPT, *SMALL, "--data", cohort, "--results", disk, "--set", "train.epochs=3")
        assert code == 2
        one_sentence(stderr, "no space left on its disk", ".npz", "make room and give the same command again")
        kept = {path.name: path.read_bytes() for path in (disk / RUN).glob("*.npz")}
        assert kept["member_0.npz"] == before["member_0.npz"] and before["ensemble.npz"] in kept.values()
        assert not list((disk / RUN).rglob("*.tmp*"))
        (disk / "filler").unlink()
        assert call_script(SCRIPT, *SMALL, "--data", cohort, "--results", disk, "--set", "train.epochs=3")[0] == 0
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
