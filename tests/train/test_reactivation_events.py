"""Reactivation without cues, on nights with planted reactivations and with none (all simulated here)."""

import json

import numpy as np
import own_data
import pandas as pd
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from sleep_interpreter.data.formats.scoring_readers import Hypnogram
from sleep_interpreter.data.preparation.signal import SignalFile
from sleep_interpreter.train.commands import reactivation
from sleep_interpreter.train.evaluation import memory_scores, reactivation_events, sliding_decoder
from sleep_interpreter.train.evaluation.sliding_decoder import ReactivationSettings
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.signal.preprocessing import decoding_window

ITEMS = published().item_names
CHANNELS, RATE, MINUTES = 8, 500, 6
SETTINGS = ReactivationSettings(
    stages=("N2",), step_seconds=0.2, false_alarms_per_min=0.5, control={"minutes": MINUTES}
)
PATTERNS = np.random.default_rng(9).standard_normal((15, CHANNELS))
COURSE = np.sin(2 * np.pi * 2.0 * np.arange(500) / RATE) * np.hanning(500)


def noise(n, seed):
    """Return pink noise (channels, n) in µV with SD 10."""
    rng = np.random.default_rng(seed)
    hz = np.fft.rfftfreq(n, 1 / RATE)
    data = np.fft.irfft(np.fft.rfft(rng.standard_normal((CHANNELS, n))) / np.maximum(hz, 0.5), n)
    return 10 * data / data.std(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def decoder():
    """Return a linear decoder of the planted items: (n, 200, C) -> (n, 15)."""
    rng = np.random.default_rng(0)
    raw = noise(450 * 1000, 1).reshape(CHANNELS, 450, 1000).transpose(1, 0, 2)
    label = np.arange(450) % 15
    for trial, item in zip(raw, label, strict=True):
        start = 250 + rng.integers(-50, 51)
        trial[:, start : start + 500] += 25 * np.outer(PATTERNS[item], COURSE)

    def features(trials):
        return trials.reshape(len(trials), 20, 10, CHANNELS).mean(axis=2).reshape(len(trials), -1)

    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3)
    model.fit(features(decoding_window(raw)), label)
    return lambda trials: model.predict_proba(features(trials))


def night(tmp_path, seed, strength, counts=None):
    """Write a night of N2 with planted reactivations and return it."""
    rng = np.random.default_rng([3, seed])
    data = noise(MINUTES * 60 * RATE, [4, seed])
    items = np.repeat(np.arange(15), counts if counts is not None else 2)
    onsets = 3 + np.sort(rng.choice(np.arange(0, MINUTES * 60 - 9, 3), len(items), replace=False)).astype(float)
    items = rng.permutation(items)
    for onset, item in zip(onsets, items, strict=True):
        start = int((onset + 0.3) * RATE)
        data[:, start : start + 500] += strength * np.outer(PATTERNS[item], COURSE)
    file = SignalFile(tmp_path / f"{seed}_{strength}" / "eeg.npy", data.shape)
    file.write(0, data.astype(np.float32))
    hypnogram = Hypnogram(np.array([0.0]), np.array([MINUTES * 60.0]), np.array([1]))
    columns = ("start_s", "trough_start_s", "trough_s", "up_start_s", "peak_s", "end_s")
    truth = pd.DataFrame({"onset_s": onsets, "item": [ITEMS[i] for i in items]})
    none, cues = pd.DataFrame({c: [] for c in columns}), pd.DataFrame({"onset_s": []})
    return sliding_decoder.Night(f"subject_test_{seed}", "nap", file, hypnogram, none, cues, truth, True, True)


def analyse(own, decoder, root, before=()):
    settings = SETTINGS
    if before:
        settings = SETTINGS.model_copy(update={"control": SETTINGS.control.model_copy(update={"kind": "prelearning"})})
    return reactivation.analyse(own.subject, [own], list(before), {"N2": decoder}, settings, root)


@pytest.fixture(scope="module")
def quiet_night(tmp_path_factory):
    """Return a night before learning."""
    return night(tmp_path_factory.mktemp("before"), 1, 0.0)


@pytest.fixture(scope="module")
def quiet_nights(quiet_night, tmp_path_factory):
    """Return two nights before learning: one half of them sets the threshold."""
    return [quiet_night, night(tmp_path_factory.mktemp("before"), 2, 0.0)]


def test_planted_reactivations_are_found_and_false_alarms_keep_their_promise(tmp_path, decoder, quiet_nights):
    own = night(tmp_path, 0, 25.0)
    summary, rates = analyse(own, decoder, tmp_path / "out", quiet_nights)
    truth = summary["nights"]["nap"]["truth"]
    assert truth["true"] == 30
    assert truth["recall"] > 0.6 and truth["recall"] > 3 * truth["recall_by_accident"]
    assert truth["right_item"] > 0.5 * truth["hits"]  # chance: 1 of 15
    assert truth["false_per_min"] < 1.0
    assert rates.events.sum() == summary["nights"]["nap"]["events"]["N2"]
    assert 0.49 < summary["nights"]["nap"]["false_per_min_at_most"] < 0.6  # of 6 min without an event, or so

    with np.load(tmp_path / "out" / own.subject / "nap.npz") as stored:
        assert stored["states_time"].shape == (15, len(stored["time_s"]))
        assert np.array_equal(stored["states_time"].T, stored["probability"])
        assert bool(stored["simulated"]) and stored["items"].tolist() == list(ITEMS)
        assert set(stored["stage"]) == {1}
    assert (tmp_path / "out" / own.subject / "nap_events.tsv").is_file()
    assert (tmp_path / "out" / own.subject / "nap.png").is_file()


@pytest.mark.usefixtures("undrawn")
def test_shuffled_phases_are_a_strict_control(tmp_path, decoder, quiet_night):
    """Planted patterns stay in the control's covariance, so its threshold is higher, never lower."""
    own = night(tmp_path, 0, 25.0)
    truth = analyse(own, decoder, tmp_path / "out")[0]["nights"]["nap"]["truth"]
    assert truth["recall"] > 3 * truth["recall_by_accident"]
    assert truth["false_per_min"] < 1.0
    quiet = analyse(quiet_night, decoder, tmp_path / "out")[0]["nights"]["nap"]
    assert quiet["events_per_min"] < 3 * SETTINGS.false_alarms_per_min  # 3 of 6 min expected, Poisson


@pytest.mark.usefixtures("undrawn")
def test_items_reactivated_more_often_correlate_with_memory(tmp_path, decoder, quiet_night):
    rng = np.random.default_rng(1)
    counts = rng.permutation(np.arange(15)) // 2
    _, rates = analyse(night(tmp_path, 5, 25.0, counts), decoder, tmp_path / "out", [quiet_night])
    rows = [("subject_test_5", ITEMS[k], counts[k] + rng.normal(0, 1)) for k in range(15)]
    behaviour = pd.DataFrame(rows, columns=["subject", "item", "score"])
    result = memory_scores.relation(reactivation_events.beyond_control(rates), behaviour, 2000, 0)
    assert result["n"] == 1 and result["mean_rho"] > 0.5 and result["p"] < 0.05
    shuffled = behaviour.assign(score=rng.permutation(behaviour.score))
    assert memory_scores.relation(reactivation_events.beyond_control(rates), shuffled, 2000, 0)["p"] > 0.05


def test_the_control_keeps_spectrum_and_covariance():
    raw = noise(15000, 8)
    other = sliding_decoder._shuffle_phases(raw, np.random.default_rng(0))
    assert np.allclose(np.cov(raw), np.cov(other), atol=1e-6 * np.cov(raw).max())
    assert np.allclose(abs(np.fft.rfft(raw)), abs(np.fft.rfft(other)))
    assert abs(np.corrcoef(raw[0], other[0])[0, 1]) < 0.5


def test_windows_after_a_cue_do_not_count(tmp_path, decoder):
    own = night(tmp_path, 0, 25.0)
    own.cues = pd.DataFrame({"onset_s": [100.0, 200.0]})
    course = sliding_decoder.slide(own, {"N2": decoder}, SETTINGS.model_copy(update={"step_seconds": 1.0}))
    blocked = course.time[~course.free]
    assert all((100 - 1.8 <= t <= 104.1) or (200 - 1.8 <= t <= 204.1) for t in blocked)
    assert 10 <= len(blocked) <= 12


@pytest.mark.parametrize(
    ("cues", "pieces"),
    [
        ([], {0, 30, 60, 90, 120, 150}),
        ([10.0, 62.0, 91.0], {30, 120, 150}),  # inside
        ([58.0, 118.0], {0, 150}),  # inside one piece, and 2 s before the next
        ([25.0, 50.0, 85.0], {90, 120, 150}),  # inside; 5 s before the next, too long to matter
        ([179.0, 29.99], {60, 90, 120}),  # at a piece's last moment
    ],
    ids=("none", "inside", "before", "well before", "at the end"),
)
def test_the_shuffled_control_holds_no_cues(tmp_path, cues, pieces):
    own = night(tmp_path, 0, 0.0)
    own.hypnogram = Hypnogram(np.array([0.0]), np.array([180.0]), np.array([1]))
    own.cues = pd.DataFrame({"onset_s": cues})
    decoders = {"N2": lambda trials: np.full((len(trials), 15), 1 / 15)}
    settings = SETTINGS.model_copy(update={"step_seconds": 2.0})
    control = sliding_decoder.slide_shuffled(own, decoders, settings)
    assert set((control.time // 30 * 30).astype(int)) == pieces
    assert sliding_decoder.cues_in_control(own, decoders, settings) == {"N2": 0}
    assert reactivation.cued_controls([own], decoders, settings) == []


def test_a_control_that_has_to_hold_cues_says_how_many(tmp_path):
    own = night(tmp_path, 0, 0.0)
    own.cues = pd.DataFrame({"onset_s": np.arange(0.0, MINUTES * 60, 5.0)})
    decoders = {"N2": lambda trials: np.full((len(trials), 15), 1 / 15)}
    settings = SETTINGS.model_copy(update={"step_seconds": 2.0, "guard_seconds": 0.0})
    assert len(sliding_decoder.slide_shuffled(own, decoders, settings).time)
    (said,) = reactivation.cued_controls([own], decoders, settings)
    assert "nap: the control's pieces of N2 hold 72 cues" in said and "--control" in said


@pytest.mark.usefixtures("undrawn")
def test_a_stage_that_the_control_lacks_is_said_to_be_left_out(tmp_path):
    own = night(tmp_path, 0, 0.0)
    own.hypnogram = Hypnogram(np.array([0.0, 310.0]), np.array([310.0, 20.0]), np.array([1, 2]))
    decoders = dict.fromkeys(("N2", "N3"), lambda trials: np.full((len(trials), 15), 1 / 15))
    settings = SETTINGS.model_copy(update={"stages": ("N2", "N3"), "step_seconds": 1.0})
    summary, rates = reactivation.analyse(own.subject, [own], [], decoders, settings, tmp_path)
    assert "nap: the control has no N3; 0.3 min of it were not searched" in summary["warnings"]
    assert set(rates.stage) == {"N2"}


def test_a_window_is_what_the_decoder_learnt_on(tmp_path):
    own, seen = night(tmp_path, 0, 25.0), []

    def spy(batch):
        seen.append(batch)
        return np.full((len(batch), 15), 1 / 15)

    course = sliding_decoder.slide(own, {"N2": spy}, SETTINGS.model_copy(update={"step_seconds": 1.0}))
    k = 7
    start = round((course.time[k] - 0.2) * RATE)
    assert np.array_equal(seen[0][k], decoding_window(own.eeg.read(start, start + 1000)))


def test_peaks_do_not_crowd_and_lower_thresholds_only_add():
    time = np.arange(0, 10, 0.1)
    score = np.sin(time * 3) + 0.01 * time
    found = reactivation_events.peaks(time, np.zeros(100, int), score, 1.0)
    assert (np.diff(np.sort(time[found])) >= 1.0 - 1e-9).all()
    assert (np.diff(score[found]) <= 1e-12).all()


def test_behaviour_tables_are_checked(tmp_path):
    path = tmp_path / "scores.tsv"
    path.write_text("subject\titem\tscore\nsub-1\talarm\t0.5\nsub-2\tapple\t0.1\n")
    table = memory_scores.read_behaviour(path, ["subject_test_0"], {"sub-1": "subject_test_0"}, ITEMS)
    assert table.to_dict("records") == [{"subject": "subject_test_0", "item": "alarm", "score": 0.5}]
    path.write_text("subject\titem\tscore\nsub-1\talarn\t0.5\n")
    with pytest.raises(ValueError, match="did you mean 'alarm'"):
        memory_scores.read_behaviour(path, ["sub-1"], {}, ITEMS)


def course(rng, minutes):
    """Return what a decoder says of noise, a window a second."""
    n = round(60 * minutes)
    probability = np.exp(rng.standard_normal((n, 15)))
    probability /= probability.sum(axis=1, keepdims=True)
    time, one = np.arange(n, dtype=float), np.ones(n, int)
    return sliding_decoder.Course(time, one, one, probability, np.ones(n, bool))


@pytest.mark.parametrize(("confidence", "low", "high"), [(0.95, 0.0, 0.1), (0.501, 0.3, 0.7)])
def test_the_promise_about_false_alarms_is_kept_as_often_as_stated(confidence, low, high):
    settings = SETTINGS.model_copy(update={"control": SETTINGS.control.model_copy(update={"confidence": confidence})})
    broken, rng = [], np.random.default_rng(5)
    for _ in range(50):
        levels = reactivation_events.thresholds([course(rng, 20)], settings, 1.0)
        rate = len(reactivation_events.find_events(course(rng, 120), levels, settings)) / 120
        broken.append(rate > settings.false_alarms_per_min)
    assert low <= np.mean(broken) <= high


def test_a_night_on_which_the_decoder_is_surer_of_everything_has_no_more_events():
    rng = np.random.default_rng(6)
    control, night = course(rng, 60), course(rng, 60)
    night.probability = night.probability**2  # twice the evidence throughout, and one item favoured
    night.probability[:, 3] *= 5
    night.probability /= night.probability.sum(axis=1, keepdims=True)
    levels = reactivation_events.thresholds([control], SETTINGS, 1.0)
    assert len(reactivation_events.find_events(night, levels, SETTINGS)) < 60 * 2 * 0.5


def test_recordings_that_favour_other_items_keep_the_promise_together():
    """Two nights, each with its own control: scored together, their differences would lower the threshold."""
    rng, false = np.random.default_rng(8), []

    def favouring(minutes, favour):
        own = course(rng, minutes)
        own.probability = own.probability * favour
        own.probability /= own.probability.sum(axis=1, keepdims=True)
        return own

    for _ in range(10):
        favours = np.exp(2 * rng.standard_normal((2, 15)))
        levels = reactivation_events.thresholds([favouring(30, f) for f in favours], SETTINGS, 1.0)
        for favour in favours:
            night = favouring(60, favour)
            false.append(len(reactivation_events.find_events(night, levels, SETTINGS)) / 60)
    assert np.mean(np.array(false) > SETTINGS.false_alarms_per_min) <= 0.2


def test_the_bound_of_a_rate_is_that_of_the_tables():
    # upper 95 % limits of Poisson means for 0, 1 and 5 events
    found = [reactivation_events.rate_bound(k, 1.0, 0.95) for k in (0, 1, 5)]
    np.testing.assert_allclose(found, [2.996, 4.744, 10.513], atol=1e-3)
    assert reactivation_events.allowed_events(60, 0.2, 0.95) == 6
    assert reactivation_events.allowed_events(5, 0.2, 0.95) == 0


def test_a_control_that_is_too_short_promises_nothing():
    settings = ReactivationSettings(false_alarms_per_min=0.2)
    levels = {
        code: {"minutes": m, "bound_per_min": reactivation_events.rate_bound(0, m, 0.95)}
        for code, m in ((1, 2.0), (2, 15.0))
    }
    (warning,) = reactivation.too_short(levels, settings)
    assert "2.0 min of N2" in warning and "at least 15 min" in warning and "up to 1.5" in warning
    summary = {"simulated": True, "subjects": {"s": {"warnings": [warning], "nights": {}}}}
    assert f"  warning, s: {warning}" in reactivation.summary_lines(summary)


def prepared(folder, names, data):
    """Write a prepared night of N2 with channels of these names."""
    SignalFile(folder / "eeg.npy", data.shape).write(0, data.astype(np.float32))
    about = {"channels": list(names), "average_at_window": True, "simulated": True}
    (folder / "eeg.json").write_text(json.dumps(about))
    (folder / "stages.tsv").write_text(f"onset\tduration\tstage\tname\n0\t{data.shape[1] / RATE:g}\t1\tN2\n")
    (folder / "so.tsv").write_text("start_s\ttrough_start_s\ttrough_s\tup_start_s\tpeak_s\tend_s\n")
    (folder / "cues.tsv").write_text("onset_s\n")
    return folder


def test_a_decoder_of_another_experiment_gets_its_windows_channels_and_items(tmp_path):
    card = own_data.card_of("words", channels=published().channels[:CHANNELS])  # 8 items, 250 Hz, -0.5 to 2.5 s
    data, seen = noise(60 * RATE, 12), []

    def spy(batch):
        seen.append(batch)
        return np.full((len(batch), 8), 1 / 8)

    settings = SETTINGS.model_copy(update={"step_seconds": 1.0})
    order = np.random.default_rng(2).permutation(CHANNELS)
    names = [card.channels[i] for i in order]
    courses = []
    for folder, own, rows in (("one", card.channels, data), ("two", names, data[order])):
        read = sliding_decoder.read_night(prepared(tmp_path / "s" / folder, own, rows), card)
        courses.append(sliding_decoder.slide(read, {"N2": spy}, settings))
    assert np.array_equal(seen[0], seen[1]) and seen[0].shape == (58, 750, CHANNELS)  # by name, to the bit
    assert courses[0].time[0] == 0.5 and courses[0].items == card.item_names
    assert courses[0].probability.shape == (58, 8)
    assert "another order" in read.sentence
    with pytest.raises(ValueError, match=r"1 of the 8 channels that the network reads are not there"):
        sliding_decoder.read_night(prepared(tmp_path / "s" / "less", names[1:], data[1:]), card)
    less = sliding_decoder.read_night(tmp_path / "s" / "less", card, interpolate=True)
    assert "interpolated from 7 others" in less.sentence and less.eeg.read(0, 10).shape == (CHANNELS, 10)
    rates = reactivation_events.rates(
        "s", courses[0], reactivation_events.find_events(courses[0], {}, settings),
        {1: {"minutes": 1.0, "false_alarms": np.zeros(8, int)}}, 1.0,
    )  # fmt: skip
    assert rates["item"].tolist() == list(card.item_names)
