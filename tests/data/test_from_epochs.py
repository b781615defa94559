"""MNE Epochs as a data set: the same in memory and on disk, and refused where they are not understood."""

import json
from dataclasses import replace

import mne
import numpy as np
import pandas as pd
import pytest

import sleep_interpreter as si
from sleep_interpreter.data.formats.training_trials import TrainingTrials
from sleep_interpreter.data.preparation.epochs import RECORD
from sleep_interpreter.utils.core.data_card import Item
from sleep_interpreter.utils.signal.preprocessing import scale_trial

ITEMS = ("tea", "soap", "mint")
CHANNELS = ("Fz", "C3", "Cz", "C4", "Pz")


def epochs_of(seed=0, kind="N2N3", n=18, rate=125.0, samples=125, tmin=-0.2, channels=CHANNELS, **more):
    """Return Epochs in V of noise with a pattern per item, named by events "KIND/item"."""
    random = np.random.default_rng([seed, len(kind)])
    label = np.arange(n) % len(ITEMS)
    patterns = np.random.default_rng(9).standard_normal((len(ITEMS), len(CHANNELS)))
    eeg = 1e-5 * (random.standard_normal((n, len(channels), samples)) + patterns[label][:, : len(channels), None])
    eeg *= 1 + np.hanning(samples)
    info = mne.create_info(list(channels), rate, "eeg")
    events = np.column_stack([1000 * (1 + np.arange(n)), np.zeros(n, int), 1 + label])
    prefix = f"{kind}/" if kind else ""
    named = {f"{prefix}{item}": k for k, item in enumerate(ITEMS, 1)}
    return mne.EpochsArray(eeg, info, events, tmin=tmin, event_id=named, verbose="error", **more)


@pytest.fixture
def given():
    """Return sleep and wake Epochs of three subjects."""
    sleep = {name: epochs_of(seed) for seed, name in enumerate(("anna", "ben", "cleo"))}
    wake = {}
    for seed, name in enumerate(sleep):
        parts = [epochs_of(seed, kind, samples=100, tmin=0.0) for kind in ("image", "audio")]
        parts[1].event_id = {key: code + 10 for key, code in parts[1].event_id.items()}
        parts[1].events += [50_000, 0, 10]
        wake[name] = mne.concatenate_epochs(parts, add_offset=False, on_mismatch="ignore", verbose="error")
    return sleep, wake


def test_card_and_trials_are_those_of_the_epochs(given):
    sleep, wake = given
    data = si.from_epochs(sleep, wake, title="Smells", reference="average")
    card = data.card
    assert card.item_names == ("mint", "soap", "tea") and card.channels == CHANNELS and card.title == "Smells"
    assert card.rate_hz == 125 and card.conditions == ("image", "audio", "N2N3") and card.reference == "average"
    assert card.windows.sleep.model_dump() == {"begin": -0.2, "end": 0.8}
    assert card.windows.wake.model_dump() == {"begin": 0.0, "end": 0.8} and card.unit == "robust"
    assert card.filter.low_hz is None and card.filter.high_hz is None
    first = data.subjects()[0]
    assert first.name == "anna" and first.sleep.shape == (18, 125, 5) and first.sleep.dtype == np.float32
    raw = sleep["anna"].get_data(copy=True)
    assert np.allclose(first.sleep, scale_trial(raw).transpose(0, 2, 1), atol=1e-5)
    assert [card.item_names[k] for k in first.label[:4]] == ["tea", "soap", "mint", "tea"]
    assert {part: int((first.data_type == part).sum()) for part in ("train", "val", "test")} == {
        "train": 12, "val": 3, "test": 3,
    }  # fmt: skip
    microvolts = si.from_epochs(sleep["anna"], unit="uV").subjects()[0].sleep
    assert np.allclose(microvolts, 1e6 * raw.transpose(0, 2, 1), rtol=1e-5)


def test_awake_trials_are_those_of_the_item(given):
    sleep, wake = given
    data = si.from_epochs(sleep, wake)
    subject = data.subjects(awake=True)[1]
    assert subject.image.shape == subject.audio.shape == (18, 15, 100, 5)
    kinds = {kind: scale_trial(wake["ben"][kind].get_data(copy=True)).transpose(0, 2, 1) for kind in ("image", "audio")}
    names = {kind: [data.card.item_names[k] for k in data.trials["ben"][kind].items] for kind in kinds}
    for kind, trials in kinds.items():
        for place in (0, 7):
            own = [np.abs(trials - one).max(axis=(1, 2)).argmin() for one in getattr(subject, kind)[place]]
            assert {names[kind][k] for k in own} == {data.card.item_names[subject.label[place]]}
    batch = next(iter(data.reader(awake=True).batches(8, seed=1, epoch=0)))
    assert {key: value.shape for key, value in batch.items()} == {
        "sleep": (8, 125, 5), "label": (8, 3), "image": (8, 100, 5), "audio": (8, 100, 5),
    }  # fmt: skip


def test_what_is_written_is_read_as_it_was(given, tmp_path, call_script):
    data = si.from_epochs(*given, simulated=True)
    root = data.write(tmp_path / "data", test=["ben"])
    assert si.card_of(root) == data.card
    record = json.loads((root / RECORD).read_text(encoding="utf-8"))
    assert record["names"] == {"anna": "subject_0", "ben": "subject_test_0", "cleo": "subject_1"}
    (tested,) = si.read_test_subjects(root, awake=True)
    (own,) = data.only(["ben"]).subjects(awake=True)
    assert tested.simulated and own.simulated
    for key in ("sleep", "label", "data_type"):
        assert np.array_equal(getattr(tested, key), getattr(own, key))
    assert tested.image.shape == own.image.shape
    trials = TrainingTrials(root, awake=True)
    assert trials.subjects == ["subject_0", "subject_1"] and len(trials) == 36 and trials.simulated
    assert np.array_equal(trials.read(0, 0)["sleep"], data.subjects()[0].sleep[0])
    code, told = call_script("data/check.py", root)
    assert code == 0, told
    with pytest.raises(si.UserError, match="is there already"):
        data.write(root)


@pytest.mark.usefixtures("undrawn")
def test_a_training_in_memory_is_that_on_disk(given, tmp_path):
    sleep, wake = given
    data = si.from_epochs(sleep, wake)
    root = data.write(tmp_path / "data", test=["cleo"])
    settings = {"members": 1, "train.epochs": 1, "train.batch_size": 16}
    network = si.train_network("EEGNet", data.without(["cleo"]), tmp_path / "memory", settings)
    assert network.card == data.card and network.notes["training_subjects"] == ["anna", "ben"]
    other = si.train_network("EEGNet", root, tmp_path / "disk", settings)
    x = data.subjects()[2].sleep
    assert np.array_equal(si.predict(network, x), si.predict(other, x))
    scores = {"bootstrap": 100, "permutations": 100}
    found = [
        si.evaluate(network, subjects, tmp_path / name, scores)["overall"]["accuracy"]
        for name, subjects in (("one", data.only(["cleo"]).subjects()), ("two", si.read_test_subjects(root)))
    ]
    assert found[0] == found[1]
    held = si.train_network("EEGNet", data, tmp_path / "held", {**settings, "train.validation_subjects": 1})
    assert len(held.notes["validation_subjects"]) == 1 and held.notes["validation_trials"] == 18
    again = si.from_epochs({**sleep, "anna": epochs_of(7)}, wake)
    with pytest.raises(si.UserError, match=r"data_fingerprint|other data"):
        si.train_network("EEGNet", again.without(["cleo"]), tmp_path / "memory", {**settings, "train.epochs": 2})
    with pytest.raises(si.UserError, match="not for data in memory"):
        si.train_network("EEGNet", data, tmp_path / "x", {"train.shuffle_labels": True})


def test_metadata_name_items_and_conditions():
    epochs = epochs_of(kind="")
    names = [ITEMS[k % 3] for k in range(18)][::-1]
    epochs.metadata = pd.DataFrame({"item": names, "condition": ["N2N3"] * 12 + ["REM"] * 6})
    data = si.from_epochs(epochs, items=[Item(name="soap", sound="soap.wav"), "tea", "mint"])
    assert data.card.items[0].sound == "soap.wav" and data.card.conditions == ("N2N3", "REM")
    assert [data.card.item_names[k] for k in data.subjects("REM")[0].label] == names[12:]
    assert si.from_epochs(epochs_of(kind=""), stage="REM").card.conditions == ("REM",)


def test_another_order_of_channels_is_none(given):
    sleep, _ = given
    turned = {**sleep, "ben": sleep["ben"].copy().reorder_channels(list(CHANNELS[::-1]))}
    one, other = (si.from_epochs(some).subjects()[1].sleep for some in (sleep, turned))
    assert np.array_equal(one, other)


def changed(change):
    """Return Epochs of two subjects, the second of which is changed."""
    second = epochs_of(1)
    return {"anna": epochs_of(0), "ben": change(second) or second}


def nan(epochs):
    epochs._data[3, 1, 5] = np.nan


def bad(epochs):
    epochs.info["bads"] = ["Cz"]


def no_item(epochs):
    epochs.metadata = pd.DataFrame({"item": ["tea", None] * 9})


def unknown_condition(epochs):
    epochs.metadata = pd.DataFrame({"item": ["tea"] * 18, "condition": ["N5"] * 18})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda: changed(nan), "sleep of ben: trial 3 has NaN or infinite values in C3"),
        (lambda: changed(bad), "sleep of ben: Cz are marked as bad"),
        (lambda: changed(lambda e: e.drop_channels(["Cz"])), "do not have the same channels: Cz"),
        (lambda: changed(lambda e: epochs_of(rate=250.0)), "sleep of ben: rate_hz 250.0, but sleep of anna: 125.0"),
        (lambda: changed(lambda e: e.crop(tmax=0.5)), "sleep of ben: window .* but sleep of anna"),
        (lambda: changed(lambda e: e.apply_baseline((-0.2, 0))), r"sleep of ben: baseline \(-0.2, 0.0\), but .*None"),
        (lambda: changed(lambda e: e.load_data().filter(1, None, verbose="error")), "sleep of ben: filter"),
        (lambda: changed(no_item), "sleep of ben: trial 1 names no item: nan"),
        (lambda: changed(unknown_condition), "trial 0 .* is of condition 'N5'; expected N2N3 or REM"),
        (lambda: changed(lambda e: epochs_of(kind="image")), "is of condition 'image'; expected N2N3 or REM"),
        (lambda: changed(lambda e: e.drop(range(18), verbose="error")), "sleep of ben: no trial is left"),
        (lambda: changed(lambda e: e.apply_function(lambda x: 1e6 * x)), "MNE's Epochs are in volts"),
        (lambda: changed(lambda e: e.set_channel_types(dict.fromkeys(CHANNELS, "eog"))), "no channel is of type eeg"),
        (lambda: {}, "no Epochs are given, neither asleep nor awake"),
        (lambda: {"anna": epochs_of().average()}, "expected mne.Epochs, found EvokedArray"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(given, words):
    with pytest.raises(si.UserError, match=words):
        si.from_epochs(given())


def test_items_and_subjects_that_do_not_agree_are_refused(given):
    sleep, wake = given
    with pytest.raises(si.UserError, match="no sleep trial of rose"):
        si.from_epochs(sleep, items=[*ITEMS, "rose"])
    with pytest.raises(si.UserError, match="is of item 'mint'; the items are tea, soap"):
        si.from_epochs(sleep, items=ITEMS[:2])
    with pytest.raises(si.UserError, match="no sleep trial of soap"):
        si.from_epochs(_without(epochs_of(), "soap"))
    some = si.from_epochs(sleep, {name: wake[name] for name in ("anna", "ben")})
    assert [len(subject) for subject in some.subjects(awake=True)] == [18, 18, 0]  # cleo has no awake trials
    with pytest.raises(si.UserError, match=r"wake of anna: trial 0 .* names no condition; expected image or audio"):
        si.from_epochs({"anna": sleep["anna"]}, {"anna": epochs_of(kind="")})
    data = si.from_epochs(sleep)
    with pytest.raises(si.UserError, match="no Epochs of a subject 'bem'; did you mean 'ben'"):
        data.only(["bem"])
    with pytest.raises(si.UserError, match="no trials of 'image'"):
        data.subjects(awake=True)


def _without(epochs, item):
    """Return Epochs that name an item of which no trial is left."""
    return epochs.drop(np.flatnonzero(epochs.events[:, 2] == 1 + ITEMS.index(item)), verbose="error")


def test_a_data_set_that_fails_leaves_nothing(given, tmp_path):
    data = si.from_epochs(given[0])
    broken = replace(data, trials={**data.trials, "ben": {}})
    with pytest.raises(KeyError):
        broken.write(tmp_path / "data")
    assert not list(tmp_path.iterdir())


def tagged(kind, item="tea"):
    """Return Epochs whose events name the condition and whose metadata name the item."""
    epochs = epochs_of(kind=kind)
    items = np.resize(ITEMS, len(epochs))
    epochs.metadata = pd.DataFrame({"item": items})
    return epochs


def test_the_condition_of_an_event_counts_beside_items_of_the_metadata():
    assert si.from_epochs(tagged("REM")).card.conditions == ("REM",)
    assert si.from_epochs(tagged("N2N3"), stage="REM").card.conditions == ("N2N3",)
    assert si.from_epochs(tagged("trigger"), stage="REM").card.conditions == ("REM",)
    wrong = tagged("REM")
    wrong.metadata = wrong.metadata.assign(condition="N2N3")
    with pytest.raises(si.UserError, match="condition 'N2N3' in the metadata, but its event is called 'REM/"):
        si.from_epochs(wrong)


def zero(where):
    """Return a change of Epochs that makes some values 0."""

    def change(epochs):
        epochs._data[where] = 0

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (zero(np.s_[:, 0]), "Fz is flat in trial 0, and flat channels are in 18 of 18 trials"),
        (zero(np.s_[7, 2]), "Cz is flat in trial 7, and flat channels are in 1 of 18"),
        (zero(np.s_[3, :, 100:]), "trial 3 stands still at its end in all channels"),
        (zero(np.s_[:, :, 121:]), "trial 0 stands still at its end"),
    ],
)
def test_what_stands_still_is_no_eeg(change, words):
    with pytest.raises(si.UserError, match=words):
        si.from_epochs(changed(change))


def test_subjects_with_another_reference_or_filter_are_refused(given):
    sleep, wake = given
    referenced = sleep | {"ben": sleep["ben"].copy().set_eeg_reference("average", verbose="error")}
    with pytest.raises(si.UserError, match="sleep of ben: reference set in MNE, but sleep of anna: as recorded"):
        si.from_epochs(referenced)
    pending = sleep["ben"].copy().set_eeg_reference("average", projection=True, verbose="error")
    if not any(p["active"] for p in pending.info["projs"]):
        with pytest.raises(si.UserError, match="a projection is not applied"):
            si.from_epochs(sleep | {"ben": pending})
    filtered = wake["cleo"].copy()
    with filtered.info._unlock():
        filtered.info["lowpass"] = 20.0
    with pytest.raises(si.UserError, match="wake of cleo: filter"):
        si.from_epochs(sleep, wake | {"cleo": filtered})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (({1: epochs_of()},), "the subject 1 is called by no text"),
        ((), "neither asleep nor awake"),
        (({"a": epochs_of()}, {"b": epochs_of(kind="image")}), "no Epochs asleep of b"),
    ],
)
def test_misuse_is_a_sentence(arguments, words):
    with pytest.raises(si.UserError, match=words):
        si.from_epochs(*arguments)


def test_text_in_the_place_of_lists_is_refused(given, tmp_path):
    with pytest.raises(si.UserError, match="expected a list of names"):
        si.from_epochs(given[0], items="tea")
    data = si.from_epochs(given[0])
    with pytest.raises(si.UserError, match="expected a list of names"):
        data.write(tmp_path / "data", test="ben")
    with pytest.raises(si.UserError, match="expected a list of subjects"):
        si.evaluate(si.build("EEGNet", members=1, card=data.card), data, tmp_path / "x")


def test_trials_of_unequal_length_have_their_ends_in_the_metadata(tmp_path):
    epochs = epochs_of()
    ends = np.where(np.arange(18) % 3 == 0, 0.6, 0.8)
    epochs.metadata = pd.DataFrame({"item": np.resize(ITEMS, 18), "end_s": ends})
    data = si.from_epochs({"a": epochs, "b": epochs_of(1)})
    assert data.card.windows.sleep.earliest_end == 0.6 and data.card.varying_lengths
    (first, second) = data.subjects()
    assert np.isnan(first.sleep[0, 100:]).all() and np.isfinite(first.sleep[0, :100]).all()
    assert np.isfinite(first.sleep[1]).all() and np.isfinite(second.sleep).all()
    raw = epochs.get_data(copy=True)[0, :, :100]
    assert np.allclose(first.sleep[0, :100], scale_trial(raw).T, atol=1e-5)
    root = data.write(tmp_path / "data", test=["a"])
    (read,) = si.read_test_subjects(root)
    np.testing.assert_array_equal(read.sleep, first.sleep)
    epochs.metadata = epochs.metadata.assign(end_s="late")
    with pytest.raises(si.UserError, match="trial 0 ends at 'late' s"):
        si.from_epochs(epochs)


def test_awake_epochs_alone_and_one_kind_of_them(given, tmp_path):
    sleep, wake = given
    pictures = {name: epochs["image"] for name, epochs in wake.items()}
    for epochs in pictures.values():
        epochs.event_id = {name: code for name, code in epochs.event_id.items() if name.startswith("image/")}
    alone = si.from_epochs(wake=pictures)
    assert alone.card.conditions == ("image",) and alone.card.item_names == ("mint", "soap", "tea")
    root = alone.write(tmp_path / "alone", test=["ben"])
    assert si.card_of(root) == alone.card
    with pytest.raises(si.UserError, match="no trials of 'N2N3', only of image"):
        alone.subjects()
    with pytest.raises(si.UserError, match="no trials of 'N2N3', only of image"):
        si.train_network("EEGNet", root, tmp_path / "r")
    both = si.from_epochs(sleep, pictures)
    batch = next(iter(both.reader(awake=True).batches(4, seed=0, epoch=0)))
    assert set(batch) == {"sleep", "label", "image"}


@pytest.mark.usefixtures("undrawn")
def test_people_are_known_by_the_lab_s_names(given, tmp_path):
    """Trained in memory and tested on disk, and the other way round."""
    data = si.from_epochs(given[0])
    root = data.write(tmp_path / "data", test=["ben"])
    settings, scores = (
        {"members": 1, "train.epochs": 1, "train.batch_size": 16},
        {"bootstrap": 100, "permutations": 100},
    )
    network = si.train_network("EEGNet", data, tmp_path / "memory", settings)
    found = si.evaluate(network, si.read_test_subjects(root), tmp_path / "one", scores)
    assert "the checkpoint was trained on test subjects subject_test_0: this is no test" in found["warnings"]
    other = si.train_network("EEGNet", root, tmp_path / "disk", settings)
    found = si.evaluate(other, data.only(["anna"]).subjects(), tmp_path / "two", scores)
    assert "the checkpoint was trained on test subjects anna: this is no test" in found["warnings"]
    found = si.evaluate(other, data.only(["ben"]).subjects(), tmp_path / "three", scores)
    assert not any("this is no test" in text for text in found["warnings"])
