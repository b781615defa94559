"""Simulated sleep and wake as they are rendered: what each stage must look like in the signals themselves."""

import numpy as np
import pandas as pd
import pytest
from scipy import signal

from sleep_interpreter.data.simulation.scene import Scene
from tests.simulation_scenes import (
    ALIKE,
    NO_EVENTS,
    NO_RHYTHMS,
    NO_SENSORS,
    SILENT,
    STAGES,
    band_power,
    density,
    in_stage,
    rendered,
    scene,
    subject,
)

NIGHT = {"W": 6, "N1": 5, "N2": 12, "N3": 12, "R": 12}


@pytest.fixture(scope="module")
def night():
    """A scene of all stages with everything, and its signals."""
    made = scene(NIGHT)
    return made, rendered(made)


def of(night, key, *names):
    made, data = night
    places = [made.names.index(name) for name in names]
    return data[places][:, in_stage(made, key)]


def test_the_aperiodic_slope_is_that_of_the_stage():
    made = scene(dict.fromkeys(STAGES, 4), *NO_EVENTS, *NO_RHYTHMS, *NO_SENSORS, *ALIKE)
    data = rendered(made, *made.names[:55])
    found = {}
    for key in STAGES:
        f, power = density(data[:, in_stage(made, key)])
        used = (f >= 5) & (f <= 45)
        found[key] = -np.polyfit(np.log(f[used]), np.log(power[:, used].mean(axis=0)), 1)[0]
        assert found[key] == pytest.approx(getattr(made.settings, key).slope, abs=0.15), key
    assert found["W"] < found["N1"] < found["N2"] < found["N3"]  # steeper in deeper sleep
    assert found["W"] < found["R"] < found["N3"]


def test_whole_spectra_are_steepest_in_deep_sleep(night):
    slopes = {}
    for key in STAGES:
        f, power = density(of(night, key, "F3", "F4", "C3", "C4"))
        used = (f >= 2) & (f <= 45)
        slopes[key] = -np.polyfit(np.log(f[used]), np.log(power[:, used].mean(axis=0)), 1)[0]
    assert slopes["W"] < slopes["R"] < slopes["N2"] < slopes["N3"]


def test_alpha_reacts_to_the_eyes():
    closed = pd.DataFrame({"start_s": [60.0], "duration_s": [60.0]})
    made = scene({"W": 6}, fixed={"alpha": closed})
    data = rendered(made, "O1", "O2", "Fz")
    inside, outside = data[:, 31_000:59_000], data[:, 61_000:]
    gain = band_power(inside, 8.5, 11.5) / band_power(outside, 8.5, 11.5)
    assert gain[:2].min() > 3
    assert band_power(inside, 15, 30)[0] < 1.5 * band_power(outside, 15, 30)[0]
    power = band_power(inside, 8.5, 11.5)
    assert power[:2].min() > 3 * power[2]  # at the back of the head


def test_theta_in_n1_and_alpha_is_gone(night):
    theta = {key: band_power(of(night, key, "Cz"), 4, 7)[0] for key in STAGES}
    assert theta["N1"] > 1.5 * theta["W"]
    alpha = {key: band_power(of(night, key, "O1", "O2"), 8.5, 11.5).mean() for key in ("W", "N1")}
    assert alpha["N1"] < 0.5 * alpha["W"]


def test_slow_waves_of_n3_are_large(night):
    delta = {key: band_power(of(night, key, "Fz"), 0.5, 2)[0] for key in STAGES}
    assert delta["N3"] > 2 * delta["N2"] > 2 * delta["R"]
    spread = of(night, "N3", "Fz").std()
    assert 30 < spread < 70
    assert np.abs(of(night, "N3", "Fz")).max() < 400


def test_slow_oscillations_are_seen_where_they_are_planted(night):
    made, data = night
    sos = signal.butter(2, 4, fs=500, output="sos")
    waves = made.events["slow_oscillation"]
    places = [made.names.index(name) for name in waves["origin"].unique()]
    low = dict(zip(places, signal.sosfiltfilt(sos, data[places]), strict=True))
    sizes = []
    for row in waves.to_dict("records"):
        course = low[made.names.index(row["origin"])]
        trough, peak = (course[round(500 * row[name])] for name in ("trough_s", "peak_s"))
        sizes.append((peak - trough) / row["amplitude_uv"])
    assert np.median(sizes) == pytest.approx(0.95, abs=0.12)
    assert np.mean(np.array(sizes) > 0.3) > 0.9


@pytest.mark.parametrize("speed", [1.5, 3.0, 6.0])
def test_slow_oscillations_travel_at_their_speed(speed):
    wave = {
        "start_s": 5.0, "trough_start_s": 5.4, "trough_s": 5.65, "up_start_s": 5.9, "peak_s": 6.2,
        "end_s": 6.5, "amplitude_uv": 150.0, "kind": "so", "origin": "Fz", "speed_m_s": speed, "stage": "N3",
    }  # fmt: skip
    table = pd.DataFrame([wave])
    made = scene({"N3": 1}, *SILENT, fixed={"slow_oscillation": table})
    data = rendered(made)
    column = [made.names.index(name) for name in ("Fz", "FCz", "Cz", "CPz", "Pz")]
    trough = 2 * data[column].argmin(axis=1) / 1000
    assert trough[0] == pytest.approx(5.65, abs=0.003)
    metres = made.head.distance("Fz")[column]
    assert np.allclose(trough - 5.65, metres / speed, atol=0.004)
    assert (np.diff(trough) > 0).all()  # from front to back
    assert np.ptp(data[:55], axis=1).max() == pytest.approx(150, rel=0.1)
    assert made.phase([round(5.65 * 500)])[1][0] == pytest.approx(np.pi, abs=0.02)


def test_spindles_are_slow_in_front_and_fast_behind():
    made = scene({"N2": 20}, *NO_SENSORS, "stages.N2.spindles_per_min=10", "stages.N2.background_uv=5")
    front, back = rendered(made, "Fz", "Pz")
    spindles = made.events["spindle"]
    power = {"Fz": np.zeros(0), "Pz": np.zeros(0)}
    peaks = {"Fz": [], "Pz": []}
    for row in spindles.to_dict("records"):
        middle = round(500 * (row["start_s"] + row["duration_s"] / 2))
        piece = slice(middle - 250, middle + 250)
        for name, course in (("Fz", front), ("Pz", back)):
            f, spectrum = signal.periodogram(course[piece] * np.hanning(500), 500, nfft=4000)
            used = (f >= 10) & (f <= 17)
            peaks[name].append((spectrum[used].max(), f[used][spectrum[used].argmax()], row["frequency_hz"]))
    power = {name: np.array(values) for name, values in peaks.items()}
    own = np.where(power["Fz"][:, 0] > power["Pz"][:, 0], "Fz", "Pz")
    front_hz, back_hz = (np.median(power[name][own == name, 1]) for name in ("Fz", "Pz"))
    assert 11 <= front_hz < 13 < back_hz <= 16
    largest = np.where((own == "Fz")[:, None], power["Fz"], power["Pz"])
    assert np.median(np.abs(largest[:, 1] - largest[:, 2])) < 0.4


def test_sigma_power_rises_in_the_up_state_as_far_as_spindles_are_coupled():
    def preference(coupling):
        made = scene(
            {"N3": 20}, *ALIKE, f"stages.spindles.coupling={coupling}", "stages.spindles.fast_share=1",
            "stages.N3.spindles_per_min=8", "stages.N3.spindle_uv=[60, 80]",
            "stages.spindles.duration_s=[0.6, 0.8]",
        )  # fmt: skip
        course = rendered(made, "CPz")[0].astype(float)
        sos = signal.butter(4, [13, 16], "bandpass", fs=500, output="sos")
        power = np.abs(signal.hilbert(signal.sosfiltfilt(sos, course))) ** 2
        _, phase = made.phase(np.arange(made.n))
        inside = ~np.isnan(phase)
        # Phase does not pass evenly in time, so every twelfth of a cycle counts alike.
        part = np.minimum(((phase[inside] + np.pi) / (2 * np.pi) * 12).astype(int), 11)
        mean = np.bincount(part, power[inside]) / np.bincount(part)
        return (mean * np.exp(1j * (2 * np.pi * (np.arange(12) + 0.5) / 12 - np.pi))).sum() / mean.sum()

    coupled, free = preference(1.0), preference(0.0)
    assert abs(coupled) > 2.5 * abs(free), (coupled, free)
    assert abs(coupled) > 0.3
    assert abs(np.angle(coupled)) < 0.6  # about the peak of the up-state


def test_chin_muscle_is_slack_in_rem_sleep(night):
    tone = {key: np.median(np.abs(np.diff(of(night, key, "EMG1", "EMG2")))) for key in STAGES}
    assert tone["W"] > 1.5 * tone["N1"] > 2 * tone["N2"]
    assert tone["R"] < 0.5 * tone["N2"] and tone["R"] < 0.55 * tone["N3"]


def test_eyes_move_rapidly_in_rem_and_slowly_in_n1(night):
    def moves(key, low, high):
        left, right = of(night, key, "EOG1", "EOG2").astype(float)
        sos = signal.butter(2, [low, high], "bandpass", fs=500, output="sos")
        both = signal.sosfiltfilt(sos, [left, right], axis=1)
        return both, np.corrcoef(both)[0, 1]

    rem, opposite = moves("R", 0.5, 8)
    assert opposite < -0.2  # conjugate movements: one electrode up, the other one down
    assert moves("N3", 0.5, 2)[1] > 0.1  # slow waves reach both alike
    leaps = np.abs(np.diff(rem[1] - rem[0])).max(axis=-1)
    rolls, _ = moves("N1", 0.1, 1)
    assert np.percentile(np.abs(rolls[1] - rolls[0]), 90) > 20
    assert leaps > 3 * np.abs(np.diff(rolls[1] - rolls[0])).max()


def test_blinks_are_seen_at_the_forehead():
    made = scene({"W": 4}, *SILENT, "stages.eyes_closed.share=0", "stages.W.blinks_per_min=15")
    data, blinks = rendered(made)[:55], made.events["eye"]
    assert len(blinks) > 15 and set(blinks["kind"]) == {"blink"}
    tops = np.rint(500 * (blinks["start_s"] + blinks["duration_s"] / 2)).astype(int)
    best = data[:, tops].argmax(axis=0)
    assert {made.names[k] for k in best} <= {"Fp1", "Fpz", "Fp2"}
    assert np.allclose(data[:, tops].max(axis=0), blinks["amplitude_uv"], rtol=0.02)
    assert np.abs(data[made.names.index("Oz")]).max() < 20


def test_arousals_bring_alpha_and_muscle():
    made = scene({"N2": 20}, "stages.N2.arousals_per_h=60", "stages.N2.movements_per_h=0")
    data, awake = rendered(made, "O1", "EMG1"), np.zeros(made.n, bool)
    for start, length in made.events["arousal"][["start_s", "duration_s"]].to_numpy(float):
        awake[int((start + 1) * 500) : int((start + length - 1) * 500)] = True
    sos = signal.butter(4, [8, 12], "bandpass", fs=500, output="sos")
    alpha = signal.sosfiltfilt(sos, data[0].astype(float))
    assert alpha[awake].std() > 1.8 * alpha[~awake].std()
    assert np.diff(data[1])[awake[1:]].std() > 1.8 * np.diff(data[1])[~awake[1:]].std()


def test_sawtooth_waves_are_seen():
    made = scene({"R": 10}, *SILENT, "stages.R.sawtooth_bursts_per_min=3")
    data = rendered(made, "Cz", "FCz", "Oz")
    f, power = density(data)
    assert 2 <= f[power[0].argmax()] <= 5
    assert data[2].std() < 0.4 * data[:2].std(axis=1).max()


def test_people_and_epochs_differ_in_size():
    def ratio(change, key):
        usual, alike = (rendered(scene({"N2": 4}, *NO_EVENTS, *c), "Cz")[0] for c in ((*ALIKE, change), ALIKE))
        return usual[key].std() / alike[key].std()

    assert ratio("stages.subject_sd=0.3", slice(None)) != pytest.approx(1, abs=0.02)
    epochs = [ratio("stages.epoch_sd=0.3", slice(15_000 * k + 1_000, 15_000 * (k + 1))) for k in range(4)]
    assert np.std(epochs) > 0.1
    sizes = {
        number: [scene({"N2": 8}, *c, number=number).events["spindle"]["amplitude_uv"] for c in ((), ALIKE)]
        for number in range(3)
    }
    factors = [np.unique(np.round(a / b, 6)) for a, b in sizes.values()]
    assert all(len(own) == 1 for own in factors) and len(np.unique(factors)) == 3


def test_same_bytes_in_whatever_chunks(night):
    made, data = night
    again = scene(NIGHT)
    pieces = [again.render(a, min(a + 7_777, again.n)) for a in range(0, again.n, 7_777)]
    assert np.array_equal(np.concatenate(pieces, axis=1), data)
    backwards = scene(NIGHT)
    assert np.array_equal(backwards.render(600_123, 612_001), data[:, 600_123:612_001])
    assert np.array_equal(backwards.render(3, 17), data[:, 3:17])
    assert data.dtype == np.float32 and len(made.names) == len(data) == 61
    with pytest.raises(ValueError, match="do not lie in a scene"):
        made.render(0, made.n + 1)


def test_the_reference_is_the_mean_mastoid(night):
    made, data = night
    assert np.abs(data[55:57].mean(axis=0)).max() < 1e-3
    assert made.names[55:] == ("M1", "M2", "EOG1", "EOG2", "EMG1", "EMG2")


def test_other_purposes_and_subjects_get_other_signals():
    one, same, other = (Scene(subject(), (purpose,), ["N2"]).render(0, 500) for purpose in ("a", "a", "b"))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    assert not np.array_equal(one, Scene(subject(number=1), ("a",), ["N2"]).render(0, 500))


def test_length_and_last_stage():
    made = scene({"W": 1, "N3": 1}, n=40_000)
    assert made.n == 40_000
    assert made.events["slow_oscillation"]["start_s"].max() > 60  # the last stage holds
    assert scene({"N3": 2}, n=1_000).render(0, 1_000).shape == (61, 1_000)


def test_added_events_are_rendered_and_spindles_keep_their_oscillations():
    made = scene({"N2": 10}, "stages.spindles.coupling=1")
    waves, spindles = made.events["slow_oscillation"], made.events["spindle"]
    before = waves.iloc[spindles["so"][spindles["so"] >= 0]]["trough_s"].to_numpy()
    assert len(before) > 5
    rows = waves.iloc[:3].copy()
    times = [name for name in rows.columns if name.endswith("_s") and name != "speed_m_s"]
    rows[times] += 100.0
    made.add_events("slow_oscillation", rows.assign(kind="evoked", amplitude_uv=300.0))
    after = made.events["slow_oscillation"]
    assert len(after) == len(waves) + 3 and after["start_s"].is_monotonic_increasing
    spindles = made.events["spindle"]
    assert np.array_equal(after.iloc[spindles["so"][spindles["so"] >= 0]]["trough_s"], before)
    difference = made.render(0, made.n) - scene({"N2": 10}, "stages.spindles.coupling=1").render(0, made.n)
    assert np.ptp(difference[:55]) > 150
    assert not difference[-2:].any()


def test_added_signals_reach_the_head_alone():
    made, plain = scene({"N2": 2}), scene({"N2": 2})
    before = made.render(0, 10_000)
    made.add_signal(lambda start, stop: np.zeros((59, stop - start)))
    assert np.array_equal(made.render(0, 10_000), before)
    asked = []

    def signal_of(start, stop):
        asked.append((start, stop))
        course = np.zeros((59, stop - start))
        course[10] = 5 * np.sin(2 * np.pi * 3 * np.arange(start, stop) / 500)
        return course

    made.add_signal(signal_of)
    difference = made.render(2_000, 22_000) - plain.render(2_000, 22_000)
    expected = 5 * np.sin(2 * np.pi * 3 * np.arange(2_000, 22_000) / 500) * made.head.gain[10]
    assert np.allclose(difference[10], expected, atol=1e-3)
    assert not np.delete(difference, 10, axis=0).any()
    assert all(stop > start for start, stop in asked)


def test_rendering_is_much_faster_than_real_time():
    import time

    made = scene({"N3": 4, "N2": 4})
    made.render(0, 5_000)
    start = time.process_time()
    rendered(made)
    assert made.n / 500 / (time.process_time() - start) > 100


@pytest.mark.slow
def test_yasa_agrees_with_the_planted_stages():
    """The stager has never seen simulated sleep; 90 minutes, epoch by epoch."""
    import mne
    import yasa
    from sklearn.metrics import cohen_kappa_score, f1_score

    cycle = {"W": 8, "N1": 6, "N2": 40, "N3": 40, "N2 ": 20, "R": 40, "W ": 2, "N1 ": 4, "N2  ": 20}
    keys = [key.strip() for key, count in cycle.items() for _ in range(count)]
    made = Scene(subject(), ("yasa",), keys)
    data = rendered(made, "C4", "M1", "EOG1", "M2", "EMG1", "EMG2").astype(float) * 1e-6
    info = mne.create_info(["C4", "EOG", "EMG"], 500.0, ["eeg", "eog", "emg"])
    raw = mne.io.RawArray(data[::2] - data[1::2], info, verbose="error")
    found = yasa.SleepStaging(raw, eeg_name="C4", eog_name="EOG", emg_name="EMG").predict()
    found = [{"WAKE": "W", "REM": "R"}.get(str(key), str(key)) for key in found.hypno]
    assert cohen_kappa_score(keys, found) >= 0.6
    assert f1_score(keys, found, labels=["N2", "N3", "R"], average=None).min() > 0.4
