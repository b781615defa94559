"""The epoch that validation subjects choose; kills, extensions, and that no subject is in two splits."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import training_runs as runs
from training_runs import SMALL, arrays, one_sentence, same

from sleep_interpreter.data.formats.tfrecords import RecordFile, sleep_schema
from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.train.engine.run_folder import chosen_epoch
from sleep_interpreter.utils.core.data_card import published

SCRIPT, TEST = "train/N23SISD.py", "test/N23SISD.py"
RUN = "Decoding checkpoint/N2N3_SISD"
WRITE_STATE = ("sleep_interpreter.train.engine.run_folder", "RunFolder", "write_state")


@pytest.fixture(scope="module")
def chosen(cohort, tmp_path_factory):
    """Run folder of two members of four epochs with a validation subject; all weights are kept."""
    results = tmp_path_factory.mktemp("chosen")
    options = ["--validation-subjects", "1", "--set", "train.epochs=4", "--set", "train.keep_epochs=9"]
    assert runs.call(SCRIPT, *SMALL, "--data", cohort, "--results", results, *options) == 0
    return results / RUN


@pytest.mark.slow
def test_the_ensemble_holds_the_epochs_that_validation_chose(chosen):
    rows = pd.read_csv(chosen / "log.csv")
    header = checkpoint.read_header(chosen / "ensemble.npz")
    epochs = header["notes"]["chosen_epochs"]
    ensemble = arrays(chosen / "ensemble.npz")
    for member in (0, 1):
        own = rows[rows["member"] == member].sort_values(
            ["validation_top1", "validation_loss", "epoch"], ascending=[False, True, True]
        )
        assert len(own) == 4 and epochs[member] == own.iloc[0]["epoch"]
        weights = arrays(chosen / "epochs" / f"member_{member}_epoch_{epochs[member]:04d}.npz")
        mine = {n: a for n, a in ensemble.items() if n.startswith(f"individual_models/{member}/")}
        assert len(mine) == len(weights)
        for name, array in weights.items():
            np.testing.assert_array_equal(mine[f"individual_models/{member}/{name}"], array)
    assert min(epochs) < 3, "with these settings a member's best epoch is not its last: the test can fail"
    found = runs.scalars(chosen / "tensorboard" / "member_0")
    assert sorted(found) == ["loss", "train_top1", "validation_loss", "validation_top1"]
    assert all(len(values) == 4 for values in found.values())


@pytest.mark.slow
def test_validation_figures_are_those_of_the_kept_weights(chosen, cohort):
    """Recomputed from an epoch's weights and the validation subject's file, outside the training loop."""
    from sleep_interpreter.data.formats.training_trials import TrainingTrials
    from sleep_interpreter.model import registry

    rows = pd.read_csv(chosen / "log.csv").set_index(["member", "epoch"])
    header = checkpoint.read_header(chosen / "ensemble.npz")
    held_out = header["notes"]["validation_subjects"]
    trials = TrainingTrials(cohort, "N2N3", awake=False, only=held_out)
    read = [trials.read(index) for index in range(len(trials))]
    settings = checkpoint.check_header(header, chosen).model
    network = registry.build_ensemble(settings, 1, "N23SISD")
    checkpoint.load_published(network, arrays(chosen / "epochs" / "member_1_epoch_0002.npz"))
    probability = network.predict_proba(np.stack([t["sleep"] for t in read]))
    label = np.array([t["label"].argmax() for t in read])
    row = rows.loc[(1, 2)]
    assert row["validation_top1"] == pytest.approx(np.mean(probability.argmax(axis=1) == label))
    loss = -np.log(probability[np.arange(len(label)), label]).mean()
    assert row["validation_loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.slow
def test_no_subject_is_in_two_splits(chosen, cohort):
    from sleep_interpreter.data.formats.test_trials import read_test_subjects
    from sleep_interpreter.data.formats.training_trials import TrainingTrials

    notes = checkpoint.read_header(chosen / "ensemble.npz")["notes"]
    record = json.loads((chosen / "run.json").read_text())
    everyone = set(TrainingTrials(cohort, "N2N3", awake=False).subjects)
    training, validation = set(notes["training_subjects"]), set(notes["validation_subjects"])
    test = {subject.name for subject in read_test_subjects(cohort)}
    assert len(validation) == 1 and len(training) == 3 and len(test) == 2
    assert training | validation == everyone
    assert not training & validation and not test & everyone
    assert notes["training_trials"] == 90 and notes["validation_trials"] == 30
    for key in ("training_subjects", "validation_subjects"):
        assert record[key] == notes[key]


def test_the_validation_subject_is_in_no_batch(cohort, tmp_path, monkeypatch, call_script):
    """Every trial that reaches the optimizer is one of the other subjects' files."""
    from sleep_interpreter.train.engine.member_trainer import MemberTrainer

    fed = []

    def epoch(self, batches, bar, evidence=None):
        fed.extend(row for batch in batches for row in batch[-2])
        return 1.0, 0.0

    monkeypatch.setattr(MemberTrainer, "epoch", epoch)
    places = [*SMALL, "--data", cohort, "--results", tmp_path, "--set", "train.keep_epochs=0"]
    code, stderr = call_script(SCRIPT, *places, "--members", "1", "--validation-subjects", "1")
    assert code == 0, stderr
    folder = cohort / "SI Main Train_tfrecords" / "N2N3"
    notes = checkpoint.read_header(tmp_path / RUN / "ensemble.npz")["notes"]

    def trials_of(subject):
        records = RecordFile(folder / f"sleep_{subject}.tfrecord", sleep_schema(published()))
        return {records.read(i)["feature_Sleep_EEG"].T.tobytes() for i in range(len(records))}

    seen = [trial.tobytes() for trial in fed]
    assert len(seen) == 2 * 90
    (held_out,) = notes["validation_subjects"]
    assert not set(seen) & trials_of(held_out)
    assert set(seen) == set.union(*(trials_of(s) for s in notes["training_subjects"]))
    for subject in (held_out, *notes["training_subjects"]):
        assert len(trials_of(subject)) == 30


@pytest.mark.parametrize("of", ["training_subjects", "validation_subjects"])
def test_data_that_change_while_they_are_trained_on_are_refused(of, cohort, tmp_path, monkeypatch, call_script):
    """The epoch in which it happens is not kept; with the data put back the same command goes on."""
    from sleep_interpreter.train.engine.member_trainer import MemberTrainer

    data = tmp_path / "data"
    shutil.copytree(cohort, data)
    folder, calls = tmp_path / RUN, []

    def epoch(self, batches, bar, evidence=None):
        calls.append(sum(1 for _ in batches))
        if len(calls) == 2:
            subject = json.loads((folder / "run.json").read_text())[of][0]
            file = data / "SI Main Train_tfrecords" / "N2N3" / f"sleep_{subject}.tfrecord"
            shutil.copy(file, tmp_path / file.name)
            another = next(other for other in sorted(file.parent.glob("sleep_*")) if other != file)
            shutil.copy(another, file.with_name(".new"))
            file.with_name(".new").replace(file)
        return 1.0, 0.0

    monkeypatch.setattr(MemberTrainer, "epoch", epoch)
    options = ["--members", "1", "--validation-subjects", "1", "--set", "train.epochs=3"]
    places = [SCRIPT, *SMALL, "--data", data, "--results", tmp_path, *options]
    code, stderr = call_script(*places)
    assert code == 2 and "has changed while it was in use" in stderr and not (folder / "ensemble.npz").exists()
    assert checkpoint.read_state(folder / "member_0.npz", header_only=True)[0]["history"][-1]["epoch"] == 0
    [kept] = tmp_path.glob("sleep_*.tfrecord")
    shutil.copy(kept, data / "SI Main Train_tfrecords" / "N2N3" / kept.name)
    code, stderr = call_script(*places)
    assert code == 0, stderr
    assert len(calls) == 4 and (folder / "ensemble.npz").exists()


@pytest.mark.slow
def test_killed_and_extended_with_validation_it_comes_to_the_same_bits(chosen, cohort, tmp_path, call_script):
    """SIGKILL right after a state, right before one and during an extension; and without any test file.

    The data set of this run has no test subjects at all, so no test trial has a say in any chosen epoch.
    """
    data, results = tmp_path / "data", tmp_path / "results"
    data.mkdir()
    shutil.copytree(
        cohort / "SI Main Train_tfrecords", data / "SI Main Train_tfrecords", copy_function=os.link,
        ignore=shutil.ignore_patterns("Whole*"),
    )  # fmt: skip
    shutil.copy(cohort / "simulation.json", data)
    options = [*SMALL, "--data", data, "--results", results, "--validation-subjects", "1"]
    short = [*options, "--set", "train.epochs=2"]
    longer = [*options, "--set", "train.epochs=4"]
    folder = results / RUN

    # The first epoch is the best so far: its weights would go to best_member_0.npz next.
    runs.kill_at(WRITE_STATE, SCRIPT, *short, nth=1)
    assert (folder / "member_0.npz").exists() and not (folder / "best_member_0.npz").exists()
    code, stderr = call_script(SCRIPT, *short)
    assert code == 0, stderr
    first = (folder / "ensemble.npz").read_bytes()

    runs.kill_at(WRITE_STATE, SCRIPT, *longer, nth=4, before=True)  # in the last epoch of the last member
    assert not (folder / "ensemble.npz").exists()
    assert (folder / "ensemble_2x2_epochs.npz").read_bytes() == first
    code, stderr = call_script(TEST, "--quick", "--data", cohort, "--results", results)
    assert code == 2
    one_sentence(stderr, "unfinished", "python train/N23SISD.py")

    code, stderr = call_script(SCRIPT, *longer)
    assert code == 0, stderr
    assert same(folder / "ensemble.npz", chosen / "ensemble.npz")
    for member in (0, 1):
        assert same(folder / f"member_{member}.npz", chosen / f"member_{member}.npz")
        events = folder / "tensorboard" / f"member_{member}"
        assert runs.scalars(events) == runs.scalars(chosen / "tensorboard" / f"member_{member}")
    assert (folder / "log.csv").read_text() == (chosen / "log.csv").read_text()
    left = [p for p in folder.rglob(".*") if p.suffix != ".lock"]  # a kill may leave those
    assert not left, "no temporary file is left"


@pytest.mark.slow
def test_best_weights_of_another_epoch_are_refused(chosen, cohort, tmp_path, call_script):
    folder = tmp_path / RUN
    shutil.copytree(chosen, folder)
    header = checkpoint.read_header(folder / "ensemble.npz")
    member = int(np.argmin(header["notes"]["chosen_epochs"]))
    _, weights = checkpoint.read_arrays(folder / f"best_member_{member}.npz")
    checkpoint.write_arrays(folder / f"best_member_{member}.npz", {"member": member, "epoch": 77}, weights)
    options = ["--validation-subjects", "1", "--set", "train.epochs=4", "--set", "train.keep_epochs=9"]
    code, stderr = call_script(SCRIPT, *SMALL, "--data", cohort, "--results", tmp_path, *options, "--collect")
    assert code == 2
    one_sentence(stderr, f"best_member_{member}.npz", "holds epoch 77", "--restart")


def test_chosen_epoch():
    def row(epoch, top1, loss):
        return {"epoch": epoch, "validation_top1": top1, "validation_loss": loss}

    assert chosen_epoch([row(0, 0.2, 1.0), row(1, 0.4, 9.0), row(2, 0.3, 0.1)]) == 1, "highest top-1"
    assert chosen_epoch([row(0, 0.4, 3.0), row(1, 0.4, 2.0), row(2, 0.4, 2.5)]) == 1, "ties: lowest loss"
    assert chosen_epoch([row(0, 0.1, 2.0), row(1, 0.4, 2.0), row(2, 0.4, 2.0)]) == 1, "then the earliest"
