"""train/N23_finetune.py: what is frozen, how the epoch is chosen, kills, and what is taken up again."""

import json
import logging
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import training_runs as runs
from training_runs import SMALL, arrays, one_sentence, same

from sleep_interpreter.model import registry
from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.train.engine.finetuning import published_score
from sleep_interpreter.train.settings import experiment
from sleep_interpreter.utils.core import config, file_locks
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.file_hashes import content_hash
from sleep_interpreter.utils.core.safe_pickle import read_pickle, write_pickle

SCRIPT = "train/N23_finetune.py"
TUNED = "Decoding checkpoint/N2N3_SIMD_finetune"
SUBJECTS = ("subject_test_0", "subject_test_1")
EPOCHS = ["--set", "finetune.epochs=3"]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The ensemble to begin with; test_other_decoders.py begins with one that a script trained."""
    small = [word for word in SMALL if "=" in word]
    settings = config.load(experiment.Experiment, "N23SIMD", quick=True, overrides=small)
    path = tmp_path_factory.mktemp("start") / "ensemble.npz"
    subjects = [f"subject_{number}" for number in range(4)]
    network = registry.build_ensemble(settings.model, settings.members, "N23SIMD")
    checkpoint.save(network, path, simulated=True, training_subjects=subjects)
    return path


@pytest.fixture(scope="module")
def tuned(cohort, start, tmp_path_factory):
    """Results of fine-tuning to both subjects."""
    results = tmp_path_factory.mktemp("tuned")
    places = ["--data", cohort, "--results", results, "--checkpoint", start]
    assert runs.call(SCRIPT, "--quick", *EPOCHS, *places) == 0
    return results


@pytest.mark.slow
def test_the_convolutions_stay_and_all_else_changes(start, tuned):
    before = arrays(start)
    for subject in SUBJECTS:
        after = arrays(tuned / TUNED / subject / "ensemble.npz")
        assert after.keys() == before.keys()
        frozen = {name for name in before if "_emb_input/conv1d_layer" in name}
        assert len(frozen) == 2 * 3 * 2, "2 members, 3 stems of one convolution: kernel and bias"
        for name in before:
            if not name.endswith("/W_k/W/bias"):  # adds the same to all scores, so its gradient is 0
                assert np.array_equal(before[name], after[name]) == (name in frozen), name
        assert any(name.endswith("/moving_mean") for name in before.keys() - frozen)


@pytest.mark.slow
def test_the_tuned_checkpoints_give_the_reported_figures(cohort, tuned):
    """Test probabilities to the last bit, the validation figures of the chosen epoch, and the notes."""
    from sleep_interpreter.data.formats.test_trials import read_test_subjects

    stored = read_pickle(tuned / "N23_finetune.pickle")
    table = pd.read_csv(tuned / "N23_finetune" / "predictions.csv")
    summary = json.loads((tuned / "N23_finetune" / "summary.json").read_text())
    for subject in read_test_subjects(cohort, "N2N3"):
        path = tuned / TUNED / subject.name / "ensemble.npz"
        network = checkpoint.restore(path, "N23SIMD")
        report, choose = (subject.part(part).arrays() for part in ("test", "val"))
        np.testing.assert_array_equal(network.predict_proba(report["sleep"]), stored[subject.name]["probability"])
        np.testing.assert_array_equal(report["label"].argmax(axis=1), stored[subject.name]["label"])
        probability, label = network.predict_proba(choose["sleep"]), choose["label"].argmax(axis=1)
        chosen = pd.read_csv(path.with_name("log.csv")).loc[network.notes["chosen_epoch"]]
        assert chosen["validation_top1"] == pytest.approx(np.mean(probability.argmax(axis=1) == label))
        loss = -np.log(probability[np.arange(len(label)), label]).mean()
        assert chosen["validation_loss"] == pytest.approx(loss, rel=1e-5)
        own = table[table["subject"] == subject.name]
        assert len(own) == len(report["label"]) == 4 and set(own["data_type"]) == {"test"}
        row = summary["subjects"][subject.name]
        assert row["n"] == 4 and row["hits"] == own["correct"].sum()
        log = pd.read_csv(path.with_name("log.csv"))
        best = log.sort_values(["validation_top1", "validation_loss", "epoch"], ascending=[False, True, True])
        assert row["chosen_epoch"] == best.iloc[0]["epoch"] == network.notes["chosen_epoch"]
        assert row["validation_top1"] == best.iloc[0]["validation_top1"]
        assert network.notes["finetuned_to"] == subject.name and network.notes["simulated"] is True
        assert {"subject_0", "subject_3", subject.name} <= set(network.notes["training_subjects"])
        found = runs.scalars(path.with_name("tensorboard"))
        assert [step for step, _ in found["validation_top1"]] == [0, 1, 2]
        np.testing.assert_allclose([v for _, v in found["loss"]], log["loss"], rtol=1e-6)
    assert summary["data_types"] == ["test"] and summary["simulated"] is True
    assert not list((tuned / TUNED).rglob("state.npz"))


@pytest.mark.slow
def test_killed_it_comes_to_the_same_bits(cohort, start, tuned, tmp_path, call_script, caplog):
    """SIGKILL right after the state of the second epoch (states every epoch here): the same in the end."""
    options = ["--quick", *EPOCHS, "--data", cohort, "--results", tmp_path, "--checkpoint", start]
    options += ["--subjects", SUBJECTS[0]]
    states = ("sleep_interpreter.model.checkpoints.checkpoint", "write_arrays")
    runs.kill_at(
        states, SCRIPT, *options, nth=2, settings=[("sleep_interpreter.train.engine.finetuning", "SAVE_EVERY", 1)]
    )
    folder = tmp_path / TUNED / SUBJECTS[0]
    assert {path.name for path in folder.iterdir()} == {"state.npz", ".lock"}
    caplog.set_level(logging.INFO)
    code, stderr = call_script(SCRIPT, *options)
    assert code == 0 and "2 of 3 epochs" in caplog.text, stderr
    whole = tuned / TUNED / SUBJECTS[0]
    for name in ("ensemble.npz", "result.npz"):
        assert same(folder / name, whole / name)
    assert (tmp_path / "N23_finetune_test_0" / "summary.json").exists()
    assert not (tmp_path / "N23_finetune").exists(), "that is the folder of all subjects"
    assert (folder / "log.csv").read_text() == (whole / "log.csv").read_text()
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in whole.iterdir())


@pytest.mark.slow
def test_a_result_is_taken_up_and_nothing_is_trained_again(
    cohort, start, tuned, tmp_path, call_script, monkeypatch, caplog
):
    from sleep_interpreter.train.engine import finetuning

    results = tmp_path / "results"
    shutil.copytree(tuned, results)
    before = (results / "N23_finetune" / "predictions.csv").read_bytes()
    shutil.rmtree(results / "N23_finetune")

    class NoTrainer:
        def __init__(self, *args, **kwargs):
            raise AssertionError("something is trained")

    monkeypatch.setattr(finetuning, "MemberTrainer", NoTrainer)
    options = ["--quick", *EPOCHS, "--data", cohort, "--results", results, "--checkpoint", start]
    caplog.set_level(logging.INFO)
    code, stderr = call_script(SCRIPT, *options)
    assert code == 0 and caplog.text.count("fine-tuned already") == 2, stderr
    assert (results / "N23_finetune" / "predictions.csv").read_bytes() == before

    code, stderr = call_script(SCRIPT, *options, "--set", "finetune.learning_rate=0.5")
    assert code == 2
    one_sentence(stderr, "finetune.learning_rate 0.001 (now 0.5)", "--restart", "--results DIR")

    other = tmp_path / "other.npz"
    header, stored = checkpoint.read_arrays(start)
    name = next(iter(stored))
    checkpoint.write_arrays(other, header, {**stored, name: stored[name] + 1})
    code, stderr = call_script(SCRIPT, *options, "--checkpoint", other)
    assert code == 2
    one_sentence(stderr, "result.npz", "another start checkpoint", "--restart")

    data = tmp_path / "data"
    shutil.copytree(cohort / "SI Main Test", data / "SI Main Test")
    shutil.copy(cohort / "simulation.json", data)
    file = data / "SI Main Test" / SUBJECTS[0] / "N2N3_data.pickle"
    trials = read_pickle(file)
    trials[10]["Sleep_EEG"] = -trials[10]["Sleep_EEG"]  # a change that keeps size, head and tail of the file
    write_pickle(trials, file)
    code, stderr = call_script(SCRIPT, *options, "--data", data)
    assert code == 2
    one_sentence(stderr, "result.npz", "other trials", "--restart")


@pytest.fixture(scope="module")
def altered(cohort, tmp_path_factory):
    """The cohort with another test part: permuted labels and signals for subject 0, none for subject 1.

    Subject 1 also has a training trial more, whose awake trials are damaged.
    """
    root = tmp_path_factory.mktemp("altered")
    random = np.random.default_rng(0)
    for subject in SUBJECTS:
        (root / "SI Main Test" / subject).mkdir(parents=True)
    shutil.copy(cohort / "simulation.json", root)
    name = "N2N3_data.pickle"
    trials = read_pickle(cohort / "SI Main Test" / SUBJECTS[0] / name)
    test = [i for i, trial in enumerate(trials) if trial["data_type"] == "test"]
    changed = [dict(trial) for trial in trials]
    for i, j, k in zip(test, np.roll(test, 1), random.permutation(test), strict=True):
        changed[i]["category"] = trials[j]["category"]
        changed[i]["Sleep_EEG"] = 3 * trials[k]["Sleep_EEG"][::-1]
    write_pickle(changed, root / "SI Main Test" / SUBJECTS[0] / name)

    trials = [t for t in read_pickle(cohort / "SI Main Test" / SUBJECTS[1] / name) if t["data_type"] != "test"]
    broken = dict(trials[0], data_type="train")
    broken["awake_image_erp"] = np.where(np.arange(80) == 3, np.float32("nan"), broken["awake_image_erp"])
    write_pickle([*trials, broken], root / "SI Main Test" / SUBJECTS[1] / name)
    return root


@pytest.mark.slow
def test_the_test_part_has_no_say_in_weights_or_epoch(altered, start, tuned, tmp_path, call_script):
    """Other test trials, or none: the same weights, log and chosen epochs; who has none is missing."""
    options = ["--quick", *EPOCHS, "--data", altered, "--results", tmp_path, "--checkpoint", start]
    code, stderr = call_script(SCRIPT, *options, "--subjects", SUBJECTS[1])
    assert code == 2
    one_sentence(stderr, "N2N3_data.pickle, trial 16", "awake_image_erp", "NaN")
    code, stderr = call_script(SCRIPT, *options, "--skip-bad")
    assert code == 0, stderr
    for subject in SUBJECTS:
        mine, theirs = (place / TUNED / subject for place in (tmp_path, tuned))
        assert same(mine / "ensemble.npz", theirs / "ensemble.npz")
        assert (mine / "log.csv").read_text() == (theirs / "log.csv").read_text()
    before, after = (json.loads((place / "N23_finetune" / "summary.json").read_text()) for place in (tuned, tmp_path))
    for subject in SUBJECTS:
        for key in ("chosen_epoch", "validation_top1"):
            assert before["subjects"][subject][key] == after["subjects"][subject][key]
    probabilities = [arrays(place / TUNED / SUBJECTS[0] / "result.npz")["probability"] for place in (tuned, tmp_path)]
    assert not np.array_equal(*probabilities), "the altered trials did reach the report"
    assert after["missing"] == [SUBJECTS[1]] and before["missing"] == []
    assert after["subjects"][SUBJECTS[1]]["n"] == 0
    assert after["subjects"][SUBJECTS[1]]["published_score"] is None
    assert after["skipped"]["count"] == 1 and after["skipped"]["records"][0]["record"] == 16
    assert any("1 more trials" in warning for warning in after["warnings"])


def untuned(monkeypatch):
    """Fine-tune nothing: the first subject is where it ends."""
    from sleep_interpreter.train.engine import finetuning

    class ReachedError(Exception):
        pass

    def tune(self, *_):
        raise ReachedError(self)

    monkeypatch.setattr(finetuning.Finetuner, "tune", tune)
    return ReachedError


def test_the_folder_of_a_training_is_a_checkpoint_too(cohort, start, tmp_path, monkeypatch):
    """With the same hash as its file; settings of the training are the checkpoint's, precision is one's own."""
    reached, found = untuned(monkeypatch), {}
    told = start.parent / "told.npz"
    header, stored = checkpoint.read_arrays(start)
    settings = config.load(experiment.Experiment, "N23SIMD", quick=True, overrides=["train.epochs=7", "train.seed=3"])
    header["notes"]["training"] = {"settings": settings.model_dump(mode="json")}
    checkpoint.write_arrays(told, header, stored)
    for given in (start, start.parent, told):
        places = ["--data", cohort, "--results", tmp_path, "--checkpoint", given]
        with pytest.raises(reached) as caught:
            runs.call(SCRIPT, "--quick", "--set", "train.precision=mixed_bfloat16", *places)
        found[given] = caught.value.args[0]
    hashes = [found[given].notes["checkpoint_fingerprint"] for given in (start, start.parent, told)]
    assert hashes[0] == hashes[1] == content_hash([start]) != hashes[2] == content_hash([told])
    train = found[told].settings.train
    assert (train.epochs, train.seed, train.precision) == (7, 3, "mixed_bfloat16")


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_subject_without_a_part_is_one_sentence_before_anything_is_tuned(part, cohort, start, tmp_path, call_script):
    for subject in SUBJECTS:
        file = tmp_path / "SI Main Test" / subject / "N2N3_data.pickle"
        trials = read_pickle(cohort / "SI Main Test" / subject / file.name)
        if subject == SUBJECTS[1]:
            trials = [trial for trial in trials if trial["data_type"] != part]
        file.parent.mkdir(parents=True)
        write_pickle(trials, file)
    options = ["--quick", "--data", tmp_path, "--results", tmp_path / "results", "--checkpoint", start]
    code, stderr = call_script(SCRIPT, *options)
    assert code == 2
    one_sentence(stderr, SUBJECTS[1], f"no trial with data_type '{part}'", "--subjects")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--subjects", "nobody"], ["no test subject 'nobody'", "subject_test_0, subject_test_1"]),
        (["--subjects", ","], ["--subjects ','", "subject_test_3"]),
        (["--subjects", "subject_test_0,,"], ["--subjects 'subject_test_0,,'"]),
        (["--set", "finetune.freeze=['*_input/conv2d*']"], ["no variable's name matches '*_input/conv2d*'", "such as"]),
        (["--set", "finetune.freeze=['*']"], ["nothing is left to train"]),
        (["--set", "finetune.epochs=0"], ["finetune.epochs = 0"]),
        (["--set", "model.class_loss=logits"], ["no effect here", "was trained with published"]),
        (["--set", "members=1"], ["--set members=1", "was trained with 2"]),
        (["--config", "N23SIMD"], ["no `finetune` section", "N23_finetune.yaml"]),
        (["--config", "REM_finetune"], ["REMSIMD", "N23SIMD"]),
        (["--checkpoint", "nowhere.npz"], ["nowhere.npz", "not found"]),
    ],
)
def test_wrong_calls_are_one_sentence(options, words, cohort, start, tmp_path, call_script):
    places = ["--data", cohort, "--results", tmp_path, "--checkpoint", start]
    code, stderr = call_script(SCRIPT, "--quick", *places, *options)
    assert code == 2
    one_sentence(stderr, *words)
    assert not list(tmp_path.rglob("*.npz"))


def test_a_subject_to_whom_another_process_tunes_is_left_to_it(cohort, start, tmp_path, call_script):
    places = ["--data", cohort, "--results", tmp_path, "--checkpoint", start]
    with file_locks.locked(tmp_path / TUNED / SUBJECTS[0] / ".lock", refusal="as a process does while it tunes"):
        code, stderr = call_script(SCRIPT, "--quick", *EPOCHS, *places, "--restart")
    assert code == 2
    one_sentence(stderr, SUBJECTS[0], "another process is fine-tuning to this subject here")
    assert not list(tmp_path.rglob("*.npz"))


def test_ctrl_c_tells_what_is_kept(cohort, start, tmp_path, call_script, monkeypatch, caplog):
    from sleep_interpreter.train.engine.member_trainer import MemberTrainer

    def interrupted(self, batches, bar, evidence=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(MemberTrainer, "epoch", interrupted)
    caplog.set_level(logging.INFO)
    places = ["--data", cohort, "--results", tmp_path, "--checkpoint", start]
    code, stderr = call_script(SCRIPT, "--quick", *EPOCHS, *places, "--restart")
    assert code == 130 and "stopped by Ctrl-C" in stderr
    assert f"{SUBJECTS[0]}: 0 of 3; go on without --restart" in caplog.text


@pytest.mark.parametrize(
    ("before", "now", "refused"),
    [
        ([], ["train.precision=mixed_bfloat16"], "train.precision float32 (now mixed_bfloat16)"),
        (["train.precision=mixed_bfloat16"], [], "train.precision mixed_bfloat16 (now float32)"),
        (["train.precision=mixed_bfloat16"], ["train.precision=mixed_bfloat16"], None),
        ([], ["finetune.seed=7"], "finetune.seed 1642 (now 7)"),
        ([], ["evaluate.seed=7", "train.epochs=9"], None),
    ],
)
def test_what_decides_the_numbers_of_a_fine_tuning_is_part_of_it(before, now, refused, cohort, start, tmp_path):
    from sleep_interpreter.data.formats.test_trials import read_test_subjects
    from sleep_interpreter.train.engine import finetuning

    network = checkpoint.restore(start, "N23SIMD")
    (subject,) = read_test_subjects(cohort, only=[SUBJECTS[0]])

    def identity(overrides):
        settings = config.load(experiment.Experiment, "N23_finetune", quick=True, overrides=overrides)
        return finetuning.Finetuner(settings, network, {"checkpoint_fingerprint": "f"})._identity(subject)

    if refused is None:
        finetuning._check_identity(tmp_path, identity(before), identity(now))
    else:
        with pytest.raises(UserError, match=re.escape(refused)):
            finetuning._check_identity(tmp_path, identity(before), identity(now))


def test_published_score_by_hand():
    """Highest validation 0.5 in epochs 1, 2, 4; of these the best TEST is epoch 4: (0.5 + 0.3) / 2."""
    history = [{"epoch": e, "validation_top1": v} for e, v in enumerate([0.25, 0.5, 0.5, 0.4, 0.5])]
    assert published_score(history, [0.9, 0.1, 0.2, 0.8, 0.3]) == pytest.approx(0.4)
    assert published_score(history[:1], [0.9]) == pytest.approx((0.25 + 0.9) / 2)
    assert published_score(history, []) is None
