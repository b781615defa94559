"""When simulated events happen: at their rates, in their stages, nested as set, each kind for itself."""

import numpy as np
import pandas as pd
import pytest

from sleep_interpreter.data.simulation.events import COLUMNS, five_stages
from sleep_interpreter.data.simulation.settings import load_settings
from sleep_interpreter.utils.core.errors import UserError
from tests.simulation_scenes import scene

HALF_HOUR = 30.0


@pytest.fixture(scope="module")
def night():
    """Half an hour of N2, of N3 and of R, some W and N1."""
    return scene({"W": 20, "N1": 20, "N2": 60, "N3": 60, "R": 60})


def per_min(table, made, key):
    minutes = made.stages.count(key) / 2
    starts = table["start_s"].to_numpy(float)
    own = [made.stages[min(int(start // 30), len(made.stages) - 1)] == key for start in starts]
    return sum(own) / minutes


def test_tables_have_their_columns_and_are_sorted(night):
    assert set(night.events) == {*COLUMNS, "bad_channel"}
    for kind, columns in COLUMNS.items():
        table = night.events[kind]
        assert tuple(table.columns) == columns
        assert len(table) and (np.diff(table["start_s"]) >= 0).all()
        assert table["start_s"].min() >= 0
        length = table["end_s"] - table["start_s"] if kind == "slow_oscillation" else table["duration_s"]
        assert (length > 0).all() and (table["start_s"] + length <= night.n / 500).all()


def test_slow_oscillations_are_dense_and_large_in_n3(night):
    waves = night.events["slow_oscillation"]
    assert per_min(waves, night, "N3") == pytest.approx(20, rel=0.1)
    assert per_min(waves, night, "N2") == pytest.approx(5.5, rel=0.25)
    assert set(waves["stage"]) == {"N2", "N3"}
    plain = waves[waves["kind"] == "so"].groupby("stage")["amplitude_uv"].median()
    assert plain["N3"] > 1.4 * plain["N2"]
    complexes = waves[waves["kind"] == "k_complex"]
    assert set(complexes["stage"]) == {"N2"}
    assert len(complexes) / HALF_HOUR == pytest.approx(1.5, rel=0.4)
    assert complexes["amplitude_uv"].median() > plain["N2"]
    order = ["start_s", "trough_start_s", "trough_s", "up_start_s", "peak_s", "end_s"]
    assert (np.diff(waves[order], axis=1) > 0).all()
    assert (waves["start_s"].to_numpy()[1:] >= waves["end_s"].to_numpy()[:-1]).all()  # none overlap
    frequency = 1 / (waves["end_s"] - waves["trough_start_s"])
    assert frequency.between(0.5, 1.5).all()
    assert waves["speed_m_s"].between(1.2, 7.0).all()
    front = waves["origin"].str.match("A?F")
    assert front.mean() > 0.6  # most of them start in front


def test_oscillations_come_in_trains(night):
    waves = night.events["slow_oscillation"]
    deep = waves[waves["stage"] == "N3"]
    gaps = deep["start_s"].to_numpy()[1:] - deep["end_s"].to_numpy()[:-1]
    assert (gaps < 0.2).mean() > 0.4


def test_spindles(night):
    spindles = night.events["spindle"]
    assert per_min(spindles, night, "N2") == pytest.approx(6, rel=0.25)
    assert per_min(spindles, night, "N3") == pytest.approx(3.5, rel=0.3)
    assert set(spindles["stage"]) == {"N2", "N3"}
    fast = spindles["kind"] == "fast"
    assert fast.mean() == pytest.approx(0.65, abs=0.1)
    assert spindles["frequency_hz"][fast].between(13, 16).all()
    assert spindles["frequency_hz"][~fast].between(11, 13).all()
    assert spindles["duration_s"].between(0.6, 1.6).all()
    assert spindles["origin"][~fast].str.startswith("F").all()
    assert spindles["origin"][fast].str.match("C|P").all()


@pytest.mark.parametrize("coupling", [0.0, 0.5, 1.0])
def test_the_planted_share_of_spindles_lies_on_slow_oscillations(coupling):
    made = scene({"N3": 120}, f"stages.spindles.coupling={coupling}")
    spindles, waves = made.events["spindle"], made.events["slow_oscillation"]
    coupled = spindles[spindles["so"] >= 0]
    assert len(coupled) / len(spindles) == pytest.approx(coupling, abs=0.1)
    if not len(coupled):
        return
    assert coupled["so"].is_unique
    own = waves.iloc[coupled["so"]]
    middle = (coupled["start_s"] + coupled["duration_s"] / 2).to_numpy()
    assert ((own["start_s"].to_numpy() - 0.01 < middle) & (middle < own["end_s"].to_numpy() + 0.01)).all()
    _, phase = made.phase(np.rint(middle * 500))
    for kind, planted in (("fast", -0.3), ("slow", 1.6)):
        angles = phase[(coupled["kind"] == kind).to_numpy()]
        mean = np.nanmean(np.exp(1j * angles))
        assert abs(np.angle(mean * np.exp(-1j * planted))) < 0.35
        assert abs(mean) > 0.6  # SD 0.6 rad makes a resultant of 0.84
    free = spindles[spindles["so"] < 0]
    _, elsewhere = made.phase(np.rint((free["start_s"] + free["duration_s"] / 2) * 500))
    if len(free) > 50:
        assert abs(np.nanmean(np.exp(1j * elsewhere))) < 0.35


def test_eyes_in_wake_and_sleep(night):
    eye, closed = night.events["eye"], night.events["alpha"]
    assert set(eye["kind"]) == {"blink", "saccade", "slow"}
    assert set(eye["direction"]) <= {"left", "right", "up", "down"}
    blinks = eye[eye["kind"] == "blink"]
    assert set(blinks["stage"]) == {"W"}
    for start in blinks["start_s"]:
        inside = (closed["start_s"] <= start) & (start < closed["start_s"] + closed["duration_s"])
        assert not inside.any()
    open_min = 10 - closed["duration_s"].sum() / 60
    assert len(blinks) / open_min == pytest.approx(15, rel=0.4)
    assert set(eye["stage"][eye["kind"] == "slow"]) == {"N1"}
    rapid = eye[(eye["kind"] == "saccade") & (eye["stage"] == "R")]["start_s"].to_numpy()
    gaps = np.diff(rapid)
    assert len(rapid) / HALF_HOUR > 10
    assert (gaps < 1.5).mean() > 0.6 and (gaps > 4).mean() > 0.05  # bursts with pauses between them


def test_closed_eyes_have_their_share_of_wake():
    made = scene({"W": 240}, "stages.eyes_closed.share=0.6")
    assert made.events["alpha"]["duration_s"].sum() / (made.n / 500) == pytest.approx(0.6, abs=0.08)
    assert len(scene({"W": 4}, "stages.eyes_closed.share=0").events["alpha"]) == 0
    always = scene({"W": 4, "N2": 2}, "stages.eyes_closed.share=1").events["alpha"]
    assert always["duration_s"].sum() == pytest.approx(120)


def test_sawtooth_waves_and_arousals(night):
    teeth = night.events["sawtooth"]
    assert teeth["frequency_hz"].between(2, 5).all()
    assert per_min(teeth, night, "R") == pytest.approx(1.5, rel=0.35) and per_min(teeth, night, "N2") == 0
    rates = ("slow_oscillations", "k_complexes", "spindles")
    changes = (f"stages.{key}.{rate}_per_min=0" for key in ("N2", "N3") for rate in rates)
    long = scene({"N2": 960, "N3": 960}, *changes)
    arousal = long.events["arousal"]
    assert 60 * per_min(arousal, long, "N2") == pytest.approx(10, rel=0.3)
    assert 60 * per_min(arousal, long, "N3") == pytest.approx(3, rel=0.5)
    assert arousal["duration_s"].between(3, 15).all()  # AASM
    assert len(long.events["movement"]) / 16 == pytest.approx(1.5, rel=0.5)


def test_one_kind_does_not_shift_another():
    usual = scene({"W": 4, "N2": 10, "R": 6}).events
    changed = scene(
        {"W": 4, "N2": 10, "R": 6}, "stages.R.saccade_bursts_per_min=9", "stages.N2.arousals_per_h=60"
    ).events
    for kind in COLUMNS:
        assert usual[kind].equals(changed[kind]) == (kind not in ("eye", "arousal")), kind


def test_given_events_are_taken_as_they_are():
    waves = scene({"N2": 4}).events["slow_oscillation"].iloc[[1, 0]]
    closed = pd.DataFrame({"start_s": [3.0], "duration_s": [10.0]})
    made = scene({"N2": 4, "W": 2}, fixed={"slow_oscillation": waves, "alpha": closed})
    assert made.events["slow_oscillation"].equals(waves.sort_values("start_s", ignore_index=True))
    assert made.events["alpha"].equals(closed)
    assert made.events["spindle"]["so"].max() < 2


def test_clean_scenes_have_no_artefacts():
    clean = scene({"W": 120, "N2": 120}, "sensors.bad_channels_per_h=20", clean=True).events
    assert all(len(clean[kind]) == 0 for kind in ("arousal", "movement", "bad_channel"))
    usual = scene({"W": 120, "N2": 120}, "sensors.bad_channels_per_h=20").events
    assert all(len(usual[kind]) for kind in ("arousal", "movement", "bad_channel"))
    assert usual["spindle"].equals(clean["spindle"])


def test_wake_and_n1_are_told_apart():
    settings = load_settings("test").stages
    codes = [0] * 20 + [1] * 10 + [0] + [1] * 5 + [3] * 4 + [0] * 12 + [1] * 6 + [2] * 5 + [0] * 8
    for seed in range(20):
        stages = five_stages(np.random.default_rng(seed), codes, settings)
        assert [{"W": 0, "N1": 0, "N2": 1, "N3": 2, "R": 3}[key] for key in stages] == codes
        assert stages[0] == "W" and stages[19] == "N1"  # from wake over N1 into sleep
        assert stages[30] == "N1"  # a short interruption of sleep
        assert 1 <= stages[:20].count("N1") <= 6
        assert stages[51] == "N1" and stages[41] == "W"
        assert "N1" not in stages[-8:]  # the night ends awake
    assert "N1" not in five_stages(np.random.default_rng(0), codes, settings.model_copy(update={"n1_min": 0}))
    assert five_stages(np.random.default_rng(0), [], settings) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "stages.spindles.coupling=1.2",
            r"stages\.spindles\.coupling = 1\.2: .*equal to 1 .permitted: at least 0 and at most 1",
        ),
        ("stages.spindles.fast_hz=[13, 260]", r"stages\.spindles\.fast_hz.*less than 250"),
        ("stages.spindles.slow_hz=[13, 11]", "slow_hz runs from 13 to 11: the lower end comes first"),
        ("stages.N2.spindles_per_min=-3", r"stages\.N2\.spindles_per_min.*greater than or equal to 0"),
        ("stages.N2.spindles_per_min=58", r"spindles_per_min make 58 events of 1\.1 s; at most 49\.1 fit"),
        ("stages.N3.slow_oscillations_per_min=50", r"at most 37\.2 fit into a minute"),
        ("stages.N3.slow_oscillation_uv=[200, 75]", "the lower end comes first"),
        ("stages.N3.background_uv=-5", r"stages\.N3\.background_uv"),
        ("stages.R.slope=9", r"stages\.R\.slope.*less than or equal to 4"),
        ("stages.slow_waves.speed_m_s=[0, 7]", r"stages\.slow_waves\.speed_m_s.*greater than or equal to 0\.1"),
        ("stages.blink_uv=[200, 80]", "blink_uv runs from 200 to 80: the lower end comes first"),
        ("stages.eyes_closed.share=-0.1", r"stages\.eyes_closed\.share.*greater than or equal to 0"),
        ("stages.N4.slope=1", "unknown key 'stages.N4.slope'|unknown key 'stages.N4'"),
        ("stages.N2.spindle_per_min=3", "did you mean 'stages.N2.spindles_per_min'"),
    ],
)
def test_nonsense_is_refused_with_what_is_allowed(change, message):
    with pytest.raises(UserError, match=message):
        load_settings("test", [change])
