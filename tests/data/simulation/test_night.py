"""Nights, wake sessions and the short recording: hypnogram, cues, annotations, what is in the signal."""

from itertools import pairwise

import mne
import numpy as np
import pandas as pd
import pytest

from sleep_interpreter.data.simulation.hypnogram import load_hypnogram, simulate_hypnogram
from sleep_interpreter.data.simulation.night import (
    MEASURED,
    SimulatedNight,
    WakeSession,
    cue_onsets,
    hypnogram,
    recorded_night,
    shuffled_items,
)
from sleep_interpreter.data.simulation.settings import load_settings
from sleep_interpreter.data.simulation.subject import RESPONSE_S
from sleep_interpreter.utils.core.data_card import published
from tests.data.conftest import TINY
from tests.simulation_scenes import simulate_recording

EEG_MONTAGE = published().channels
ITEMS = published().item_names

RATE = 500
PLANNED = (
    "night.hypnogram=[[W, 3], [N2, 12], [N3, 12], [R, 6], [W, 2], [N2, 5]]",
    "night.cues_from_min=2",
    "night.settled_s=60",
)


@pytest.fixture(scope="module")
def planned():
    """A night of 40 minutes, planned and not rendered."""
    return SimulatedNight(load_settings("test", PLANNED), "test", 0)


def _texts(table, beginning):
    return table[table["description"].str.startswith(beginning)]


def test_recording_is_readable_by_mne_and_is_what_is_simulated_into_memory(cohort, tiny):
    recording = simulate_recording(tiny)
    raw = mne.io.read_raw_brainvision(cohort / "recordings/simulated_night.vhdr", preload=True, verbose="error")
    assert tuple(raw.ch_names) == recording.names
    assert recording.names[:55] == EEG_MONTAGE
    assert recording.names[55:] == ("M1", "M2", "EOG1", "EOG2", "EMG1", "EMG2")
    assert raw.info["sfreq"] == RATE
    assert raw.info["meas_date"] == MEASURED
    assert raw.n_times == 30_000
    assert np.allclose(raw.get_data() * 1e6, recording.data, atol=1e-3)
    texts = [text.removeprefix("Comment/") for text in raw.annotations.description]
    cues = [
        (round(onset * RATE), text.removeprefix("cue/"))
        for onset, text in zip(raw.annotations.onset, texts, strict=True)
        if text.startswith("cue/")
    ]
    assert cues == [(onset, ITEMS[item]) for onset, item in recording.cues]
    assert 8 <= len(cues) <= 14
    assert texts.count("stage/N2") == 2


def test_the_recording_of_the_demo_follows_its_plan():
    settings = load_settings("demo")
    night = recorded_night(settings)
    assert night.scene.n == 20 * 60 * RATE
    assert night.subject.name == "subject_test_0"
    onsets = night.cues["onset_s"].to_numpy()
    assert len(onsets) > 60
    assert onsets.min() >= (2 + settings.recording.cues_from_min) * 60  # sleep begins after 2 min
    assert set(night.cues["stage"]) == {"N2", "N3"}
    assert np.bincount(night.cues["item_index"]).min() >= 4


@pytest.mark.parametrize("stage", ["W", "N2", "N3", "R"])
def test_only_what_is_planted_for_a_cue_changes_when_memory_is_switched_off(stage):
    """The background does not depend on the memory's strength; without cues there is none of it."""
    plan = [f"night.hypnogram=[[{stage}, 0.5]]", "night.settled_s=0", "night.cues_from_min=0"]
    off = [f"memory.spontaneous.per_min.{key}=0" for key in ("N2", "N3", "R")]
    nights = [
        SimulatedNight(load_settings("test", [*plan, *off, "night.rem_cues=true", *more]), "test", 0)
        for more in ([], ["memory.strength=0"])
    ]
    difference = np.subtract(*(night.scene.render(0, 15_000) for night in nights))
    cued = np.zeros(15_000, bool)
    for onset in nights[0].cues["sample"]:
        cued[onset : onset + int(RESPONSE_S * RATE)] = True
    assert not difference[:, ~cued].any()
    assert not difference[59:].any()  # no EMG
    assert (np.abs(difference[:55]).max() > 2) == (stage != "W")


def test_hypnograms_come_from_the_model_or_from_the_user(tmp_path):
    given = load_settings("test", ["night.hypnogram=[[W, 1], [N2, 2]]"])
    assert hypnogram(given.night, 1, "train", 0).tolist() == [0, 0, 1, 1, 1, 1]
    (tmp_path / "night.txt").write_text("W\nN1\nN3\n", encoding="utf-8")
    read = load_settings("test", [f"night.hypnogram={tmp_path / 'night.txt'}"])
    assert hypnogram(read.night, 1, "train", 0).tolist() == [0, 0, 2]
    model = load_settings("test", ["night.hypnogram=null", "night.hours=8"])
    night = hypnogram(model.night, model.seed, "train", 3)
    assert len(night) == 8 * 120
    assert np.array_equal(night, simulate_hypnogram(load_hypnogram(overrides=["hours=8"]), model.seed, "train", 3))
    assert not np.array_equal(night, hypnogram(model.night, model.seed, "train", 4))


def test_cues_come_in_settled_nrem_sleep_only(planned):
    onsets = planned.cues["onset_s"].to_numpy()
    assert (np.diff(planned.cues["sample"]) >= 4 * RATE - 1).all()
    assert np.median(np.diff(onsets)) == pytest.approx(5, abs=0.5)
    assert onsets.min() >= (3 + 2) * 60  # sleep begins after 3 min
    assert onsets[onsets < 34 * 60].max() + RESPONSE_S < 27 * 60  # none in R, W
    assert onsets[onsets > 34 * 60].min() >= 35 * 60 + 60  # settled for 60 s
    assert onsets.max() + RESPONSE_S < 40 * 60
    assert set(planned.cues["stage"]) == {"N2", "N3"}
    unrest = pd.concat([planned.scene.events[kind] for kind in ("arousal", "movement")])
    starts, ends = unrest["start_s"].to_numpy(), (unrest["start_s"] + unrest["duration_s"]).to_numpy()
    assert not ((onsets[:, None] >= starts) & (onsets[:, None] <= ends)).any()
    for before, after in pairwise(onsets):
        if 6.01 < after - before < 60:  # nothing but an arousal or a movement holds a cue back
            assert ((starts < after) & (ends > before)).any()


def test_cues_in_rem_are_a_setting(planned):
    settings = load_settings("test", [*PLANNED, "night.rem_cues=true"])
    with_rem = SimulatedNight(settings, "test", 0)
    assert set(with_rem.cues["stage"]) == {"N2", "N3", "R"}
    awake = load_settings("test", ["night.hypnogram=[[W, 5]]"])
    assert len(SimulatedNight(awake, "test", 0).cues) == 0
    assert len(cue_onsets(None, settings.night, np.zeros(10, int), planned.scene)) == 0


def test_every_item_is_cued_once_before_any_comes_again():
    items = shuffled_items(np.random.default_rng(0), 40, 15)
    assert len(items) == 40
    assert set(items[:15]) == set(items[15:30]) == set(range(15))
    assert items[:15].tolist() != items[15:30].tolist()
    assert len(set(items[30:])) == 10
    assert len(shuffled_items(np.random.default_rng(0), 0, 15)) == 0


def test_annotations_say_what_is_in_the_tables(planned):
    table = planned.annotations()
    assert table["sample"].is_monotonic_increasing
    assert table["description"].iloc[0] == "simulated"
    assert (table["sample"] + table["duration"]).max() <= planned.scene.n
    stages = _texts(table, "stage/")
    assert (stages["sample"].to_numpy() == np.arange(80) * 15_000).all()
    coded = [{"N1": "W"}.get(stage, stage) for stage in planned.scene.stages]
    assert stages["description"].tolist() == [f"stage/{stage}" for stage in coded]
    assert stages["stage"].tolist() == list(planned.scene.stages)
    assert "N1" in set(stages["stage"])  # wake before sleep ends in N1
    cues = _texts(table, "cue/")
    assert cues["sample"].tolist() == planned.cues["sample"].tolist()
    assert cues["description"].tolist() == [f"cue/{item}" for item in planned.cues["item"]]
    assert cues["so_group"].tolist() == planned.cues["so_group"].tolist()
    events = planned.scene.events
    inside = events["slow_oscillation"]["start_s"].between(0, planned.scene.n / RATE - 1e-3)
    waves = table[table["description"].isin(["true/so", "true/k_complex", "true/evoked"])]
    assert len(waves) == inside.sum()
    assert (_texts(table, "true/evoked")["stage"].isin(["N2", "N3"])).all()
    assert len(_texts(table, "true/spindle_")) == len(events["spindle"])
    assert len(_texts(table, "true/reactivation/")) == len(planned.reactivations)
    for kind in ("arousal", "movement"):
        assert len(_texts(table, f"artefact/{kind}")) == len(events[kind])


def test_memory_counts_the_reactivations_of_the_night(planned):
    memory = planned.memory
    assert memory["item"].tolist() == list(ITEMS)
    for item, row in enumerate(memory.itertuples()):
        cued = planned.cues[planned.cues["item_index"] == item]
        alone = planned.reactivations[planned.reactivations["item_index"] == item]
        assert row.cued == cued["reactivated"].sum()
        assert row.spontaneous == len(alone)
        assert row.strength == pytest.approx(cued["gain"].sum() + alone["gain"].sum())
    assert memory["memory_score"].between(0, 1).all()


def test_a_night_does_not_depend_on_others_or_on_the_recording():
    one, two = (SimulatedNight(load_settings("test", PLANNED), "train", number) for number in (0, 1))
    again = SimulatedNight(load_settings("test", [*PLANNED, "cohort.train_subjects=9"]), "train", 1)
    assert two.cues.equals(again.cues)
    assert not one.cues["item"].equals(two.cues["item"])
    assert np.array_equal(two.scene.render(0, 2000), again.scene.render(0, 2000))


@pytest.fixture(scope="module", params=["image", "audio"])
def wake(request):
    settings = load_settings("test", ["night.wake.repetitions=2", "night.wake.rest_min=0.5"])
    return WakeSession(settings, "test", 0, request.param)


def test_wake_sessions_show_every_item_equally_often_after_a_rest(wake):
    onsets = wake.trials["onset_s"].to_numpy()
    assert np.bincount(wake.trials["item_index"]).tolist() == [2] * 15
    assert onsets[0] >= 30
    assert np.diff(onsets).min() >= 1.6 - 0.01
    assert np.diff(onsets).max() <= 2.2 + 0.01
    assert wake.scene.n > onsets[-1] * RATE + 1000
    assert set(wake.scene.stages) == {"W"}
    modality = wake.trials["modality"].iloc[0]
    texts = _texts(wake.annotations(), f"{modality}/")
    assert texts["description"].tolist() == [f"{modality}/{item}" for item in wake.trials["item"]]
    closed = wake.scene.events["alpha"]
    assert closed["start_s"].tolist() == [0.0]
    assert closed["duration_s"].tolist() == [30.0]


def test_eyes_are_closed_during_the_rest_and_open_afterwards(wake):
    names = list(wake.scene.names)
    data = wake.scene.render(0, wake.scene.n)
    occipital = data[names.index("Oz")] - data[names.index("Fz")]
    spectra = [
        np.abs(np.fft.rfft(part.reshape(-1, 1000), axis=1)) ** 2
        for part in (occipital[: 14 * 1000], occipital[16 * 1000 : 30 * 1000])
    ]
    closed, opened = (spectrum.mean(axis=0)[16:25].max() for spectrum in spectra)  # 8 to 12 Hz
    assert closed > 4 * opened


def test_the_response_to_a_picture_is_in_the_signal(wake):
    """Pictures and sounds of one subject differ by their responses alone when the rest is switched off."""
    modality = wake.trials["modality"].iloc[0]
    settings = load_settings("test", ["night.wake.repetitions=2", "night.wake.rest_min=0.5", "memory.strength=8"])
    strong = WakeSession(settings, "test", 0, modality)
    onset, item = (wake.trials[name].iloc[3] for name in ("sample", "item_index"))
    difference = (strong.scene.render(onset, onset + 400) - wake.scene.render(onset, onset + 400))[:59]
    components = [*wake.subject.components["semantic"][item], *wake.subject.components[modality][item]]
    patterns = np.stack([component.pattern for component in components], axis=1)
    explained = patterns @ np.linalg.lstsq(patterns, difference, rcond=None)[0]
    gain = wake.subject.head.gain[:, None] if hasattr(wake.subject.head, "gain") else 1
    assert np.corrcoef((gain * explained).ravel(), difference.ravel())[0, 1] > 0.95


def test_writing_in_16_bits_keeps_the_signal(tmp_path, planned):
    settings = load_settings("test", TINY)
    night = SimulatedNight(settings, "train", 0)
    night.write(tmp_path / "night.vhdr", 0.1)
    raw = mne.io.read_raw_brainvision(tmp_path / "night.vhdr", preload=True, verbose="error")
    data = night.scene.render(0, night.scene.n)
    assert np.abs(raw.get_data() * 1e6 - data).max() < 0.051
    assert (tmp_path / "night.eeg").stat().st_size == 61 * 60_000 * 2
