"""Simulated hypnograms: like the recordings they were fitted to, the same from the same seed, refusals."""

import subprocess
import sys

import numpy as np
import pytest

from benchmarks.simulator.hypnogram_fit import BOUT_MIN, bout_distance, describe, main, read_labels
from sleep_interpreter.data.simulation.hypnogram import (
    KEYS,
    HypnogramModel,
    cumulative,
    cycle_place,
    load_hypnogram,
    simulate_hypnogram,
)
from sleep_interpreter.utils.core import command_line
from sleep_interpreter.utils.core.config import load
from sleep_interpreter.utils.core.constants import N2, N3, REM, WAKE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import PARAMS, ROOT
from sleep_interpreter.utils.core.safe_pickle import write_pickle

GROUPS = ("training", "test")
NIGHTS = {"training": 100, "test": 100}


@pytest.fixture(scope="module")
def groups():
    """For each group of recordings: settings, simulated nights and their statistics."""
    result = {}
    for group in GROUPS:
        settings = load_hypnogram(group)
        nights = [simulate_hypnogram(settings, 1642, group, i) for i in range(NIGHTS[group])]
        result[group] = settings, nights, describe(nights)
    return result


def far(group, training, test):
    """Return the tolerance of a group: the 12 test recordings are too few to be fitted closely."""
    return training if group == "training" else test


def row(shares):
    """Return the shares of the stages in their order."""
    return np.array([shares[key] for key in KEYS])


def test_a_night_depends_on_its_seed_and_purpose_alone():
    settings = load_hypnogram()
    few = [simulate_hypnogram(settings, 5, "train", i) for i in range(3)]
    many = [simulate_hypnogram(settings, 5, "train", i) for i in reversed(range(10))][::-1]
    for a, b in zip(few, many, strict=False):
        np.testing.assert_array_equal(a, b)
    others = [simulate_hypnogram(settings, 6, "train", 2), simulate_hypnogram(settings, 5, "test", 2)]
    assert all(not np.array_equal(few[2], other) for other in [*others, *many[:2], *many[3:]])
    again = simulate_hypnogram(load_hypnogram(), 5, "train", 2)
    np.testing.assert_array_equal(again, few[2])


def test_nights_are_stage_codes_of_a_whole_night(groups):
    for settings, nights, _ in groups.values():
        for night in nights:
            assert night.dtype == np.int8 and night.ndim == 1
            assert set(np.unique(night)) <= {WAKE, N2, N3, REM}
            hours = len(night) / 120
            assert settings.night_hours[0] - 0.01 <= hours <= settings.night_hours[-1] + 0.01


def test_hours_fix_the_length_and_nothing_else_is_drawn_anew():
    long = simulate_hypnogram(load_hypnogram(overrides=["hours=8"]), 1, 3)
    free = simulate_hypnogram(load_hypnogram(), 1, 3)
    assert len(long) == 960 != len(free)
    assert np.argmax(long > 0) == np.argmax(free > 0)  # the same sleep latency


@pytest.mark.parametrize("group", GROUPS)
def test_stage_shares_and_night_lengths_are_those_of_the_recordings(groups, group):
    settings, _, simulated = groups[group]
    real = settings.observed
    assert np.abs(row(simulated["share"]) - row(real.share)).max() < far(group, 0.035, 0.05)
    assert np.abs(row(simulated["share_sd"]) - row(real.share_sd)).max() < far(group, 0.05, 0.08)
    by_quarter = [row(a) - row(b) for a, b in zip(simulated["share_by_quarter"], real.share_by_quarter, strict=True)]
    assert np.abs(by_quarter).max() < far(group, 0.07, 0.11)
    assert simulated["night_hours"][0] == pytest.approx(real.night_hours[0], abs=0.25)
    assert simulated["night_hours"][1] == pytest.approx(real.night_hours[1], abs=0.2)
    # What makes a night a night: N3 belongs to its beginning, R to its end.
    share = np.array([row(quarter) for quarter in simulated["share_by_quarter"]])
    assert share[0, N3] > far(group, 2, 1.3) * share[3, N3]
    assert share[3, REM] > 2.5 * share[0, REM]


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("stage", KEYS)
def test_bouts_are_as_long_and_as_many_as_in_the_recordings(groups, group, stage):
    settings, _, simulated = groups[group]
    real, bouts = settings.observed.bouts[stage], simulated["bouts"][stage]
    assert bouts["median_min"] == pytest.approx(real.median_min, abs=far(group, 0.5, 1.0))
    assert bouts["p90_min"] == pytest.approx(real.p90_min, rel=far(group, 0.2, 0.35))
    assert bouts["mean_min"] == pytest.approx(real.mean_min, rel=far(group, 0.15, 0.25))
    assert bouts["per_night"] == pytest.approx(real.per_night, rel=far(group, 0.18, 0.2))
    assert bout_distance(bouts["cumulative"], real.cumulative) < far(group, 0.045, 0.085)


@pytest.mark.parametrize("group", GROUPS)
def test_stages_follow_each_other_as_in_the_recordings(groups, group):
    settings, _, simulated = groups[group]
    for key in KEYS:
        real, found = row(settings.observed.transitions[key]), row(simulated["transitions"][key])
        assert found.sum() == pytest.approx(1)
        assert np.abs(found - real).max() < far(group, 0.035, 0.06), key
    assert simulated["transitions"]["R"]["N3"] == 0  # never seen, so never simulated


@pytest.mark.parametrize("group", GROUPS)
def test_first_occurrences_and_cycles_come_when_they_do_in_the_recordings(groups, group):
    settings, _, simulated = groups[group]
    real, found = settings.observed.first_min, simulated["first_min"]
    assert found["N2"][2] == pytest.approx(real["N2"][2], abs=5)
    assert found["N3"][2] == pytest.approx(real["N3"][2], abs=far(group, 7, 15))
    assert found["R"][0] == pytest.approx(real["R"][0], abs=far(group, 10, 35))
    assert found["R"][2] == pytest.approx(real["R"][2], abs=far(group, 20, 40))
    assert found["R"][4] == pytest.approx(real["R"][4], abs=far(group, 40, 75))
    assert simulated["rem_cycle_min"][2] == pytest.approx(settings.observed.rem_cycle_min[2], abs=10)
    assert max(simulated["lacking"].values()) <= 0.05
    assert simulated["sleep"]["SE"] == pytest.approx(settings.observed.sleep["SE"], abs=5)


def test_a_first_order_chain_would_fail_the_same_comparison(groups):
    """The bouts have a heavy tail: a Markov chain with the right shares and means has none."""
    real = groups["training"][0].observed
    stay = np.array([1 - 0.5 / real.bouts[key].mean_min for key in KEYS])
    matrix = np.diag(stay) + (1 - stay[:, None]) * np.array([row(real.transitions[key]) for key in KEYS])
    rng = np.random.default_rng(0)
    nights = []
    for _ in range(60):
        night = [WAKE]
        while len(night) < 850:
            night.append(rng.choice(4, p=matrix[night[-1]] / matrix[night[-1]].sum()))
        nights.append(np.array(night))
    chain = describe(nights)
    assert np.abs(row(chain["share"]) - row(real.share)).max() < 0.04
    distances = [bout_distance(chain["bouts"][key]["cumulative"], real.bouts[key].cumulative) for key in KEYS]
    assert min(distances[:3]) > 0.14 > 3 * 0.045
    assert chain["rem_cycle_min"][2] < real.rem_cycle_min[2] - 15


def test_the_test_recordings_have_longer_bouts_of_rem(groups):
    training, test = (groups[group][2]["bouts"]["R"]["mean_min"] for group in GROUPS)
    assert test > 1.5 * training
    with pytest.raises(UserError, match="no mode 'tset'"):
        load_hypnogram("tset")


def test_describe_counts_by_hand():
    night = np.repeat([WAKE, N2, N3, N2, REM, WAKE, REM, N2], [10, 10, 20, 10, 20, 4, 6, 20])
    found = describe([night, night])
    assert found["nights"] == 2 and found["epochs"] == 200
    assert found["night_hours"] == pytest.approx([100 / 120, 0])
    assert row(found["share"]) == pytest.approx([0.14, 0.4, 0.2, 0.26])
    assert row(found["share_by_quarter"][0]) == pytest.approx([0.4, 0.4, 0.2, 0])
    assert row(found["transitions"]["N2"]) == pytest.approx([0, 0, 0.5, 0.5])
    assert row(found["transitions"]["W"]) == pytest.approx([0, 0.5, 0, 0.5])
    assert row(found["transitions"]["R"]) == pytest.approx([0.5, 0.5, 0, 0])
    bouts = found["bouts"]["N2"]
    assert (bouts["per_night"], bouts["median_min"]) == (3, 5)
    assert bouts["mean_min"] == pytest.approx(40 / 6)
    assert bouts["cumulative"][BOUT_MIN.index(5.0)] == pytest.approx(2 / 3)
    assert found["first_min"]["R"] == [25.0] * 5
    assert found["lacking"] == dict.fromkeys(KEYS, 0)
    assert found["rem_cycle_min"] == [0.0] * 5  # one period only: 2 min of wake do not end it
    assert found["sleep"]["Lat_REM"] == 25 and found["sleep"]["SOL"] == 5
    with pytest.raises(ValueError, match="at least one night"):
        describe([])


def test_describe_manages_a_night_without_rem():
    night = np.repeat([WAKE, N2, N3], [10, 20, 30])
    found = describe([night])
    assert found["lacking"]["R"] == 1 and "R" not in found["first_min"]
    assert found["bouts"]["R"]["per_night"] == 0
    twice = np.repeat([N2, REM, N2, REM], [10, 10, 40, 10])
    assert describe([night, twice])["rem_cycle_min"] == [25.0] * 5


def test_length_classes_are_distributions_over_whole_epochs():
    share = cumulative(np.arange(5000), (0.7, 20.0), (1.0, 0.5))
    assert share.shape == (5000, 2)
    assert (share[0] == 0).all() and (np.diff(share, axis=0) >= 0).all()
    assert share[-1] == pytest.approx(1, abs=1e-6)
    assert share[40, 1] == pytest.approx(0.5, abs=0.02)  # the median, 20 min


def test_the_place_in_the_cycle():
    edges = (0.0, 5.0, 20.0)
    assert [cycle_place(edges, n, True) for n in (0, 9, 10, 39, 40, 900)] == [0, 0, 1, 1, 2, 2]
    assert cycle_place(edges, 10, False) == 4


def test_a_given_hypnogram_is_every_night(tmp_path):
    given = load_hypnogram(overrides=["given=[[W, 1.5], [N2, 2], [R, 0.5]]"])
    expected = [WAKE] * 3 + [N2] * 4 + [REM]
    night = simulate_hypnogram(given, 1, 2)
    assert night.dtype == np.int8
    np.testing.assert_array_equal(night, expected)
    file = tmp_path / "night.txt"
    file.write_text("W\nn1\nW/N1\nN2\nN2\nN2\n N2 \r\nREM\n\n", encoding="utf-8")
    settings = load_hypnogram(overrides=[f"given={file}"])
    np.testing.assert_array_equal(simulate_hypnogram(settings, 9, "train", 3), expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"W\nN2\nN4\n", r"line 3: no stage 'N4'; did you mean N"),
        (b"0\n1\n2\n", r"line 1: no stage '0'; expected one of W"),
        (b"W\n\nN2\n", r"line 2: no stage ''"),
        (b"\n", "holds no stages"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_files_that_are_no_hypnogram_are_refused(tmp_path, text, message):
    file = tmp_path / "night.txt"
    file.write_bytes(text)
    settings = load_hypnogram(overrides=[f"given={file}"])
    with pytest.raises(UserError, match=message):
        simulate_hypnogram(settings, 1)


def test_a_missing_hypnogram_file_is_named(tmp_path):
    settings = load_hypnogram(overrides=[f"given={tmp_path / 'none.txt'}"])
    with pytest.raises(UserError, match=r"none\.txt: hypnogram file not found"):
        simulate_hypnogram(settings, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("hours=0.5", r"hours = 0\.5: .*greater than or equal to 1"),
        ("hours=40", r"hours = 40: .*less than or equal to 16"),
        ("hours=3", "reach 261 min together, but a night may have only 180 min"),
        ("given=[]", "given is empty"),
        ("given=[[N4, 2]]", "given"),
        ("given=[[N2, 0.7]]", "whole epochs of 30 s"),
        ("given=[[N2, -1]]", "given"),
        ("night_hours=[6, 7]", "night_hours"),
        ("night_hours=[9, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8]", "night_hours holds quantiles: they must not decrease"),
        ("night_hours=[8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 30]", "night_hours reaches 30.0 h"),
        ("sleep_latency_min=[-1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]", "sleep_latency_min"),
        ("cycle_from_min=[5, 10]", "must begin with 0 and increase"),
        ("cycle_from_min=[0, 10, 10]", "must begin with 0 and increase"),
        ("cycle_from_min=[0, 10, 20]", r"stages\.W\.next\.cycle has 20 rows, expected 6"),
        ("stages.N2.tendency=1", r"stages\.N2\.tendency.*less than 1"),
        ("stages.N2.shift=2", r"stages\.N2\.shift.*less than or equal to 1"),
        ("stages.N2.spread=[1, 1]", r"stages\.N2: .*same number of classes"),
        ("stages.N2.median_min=[0, 1, 2, 3]", r"stages\.N2\.median_min.*greater than 0"),
        ("stages.N2.next.base=[0, 0, 0]", "only zeros"),
        ("stages.N2.next.base=[1, -1, 0]", r"stages\.N2\.next\.base"),
        ("stages.N2.next.after.W=[1, 1]", r"after\.W has 2 factors, but base has 3 options"),
        ("stages.N2.next.after.N2=[1, 1, 1]", r"stages\.N2\.next\.after must have the keys"),
        ("stages.N2.next.after.N1=[1, 1, 1]", "N1"),
        ("stages.N2.tendancy=0.1", r"did you mean 'stages\.N2\.tendency'"),
        ("observed.share.W=2", r"observed\.share\.W"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        load_hypnogram(overrides=[change])


def test_the_figures_say_where_they_come_from():
    for group, nights in (("training", 123), ("test", 12)):
        settings = load_hypnogram(group)
        assert f"{nights} {group} recordings" in settings.source
        assert settings.observed.nights == nights
        assert "expert labels of the published data set" in settings.source
    head = (PARAMS / "hypnogram.yaml").read_text(encoding="utf-8").splitlines()[:3]
    assert "python -m benchmarks.simulator.hypnogram_fit" in " ".join(head)


def labels_of(night, rest=0.0):
    """Return a night in the released format: segments of 30 s that repeat labels, one onset more."""
    onset = [30.0 * i for i in range(len(night))]
    return {"onset": [*onset, 30.0 * len(night) + rest], "label": [int(stage) for stage in night]}


def test_labels_become_epochs(tmp_path):
    file = tmp_path / "labels.pickle"
    quirks = {"onset": [0.0, 60.0, 60.0, 100.0, 185.0], "label": [0, 3, 1, 2]}
    write_pickle({"subject_0": quirks, "subject_1": labels_of([0, 1, 1, 3], rest=29.0)}, file)
    nights = read_labels(file)
    # A segment of 0 s holds no epoch, an epoch has the stage of its beginning, the rest of 5 s is dropped.
    assert nights["subject_0"].tolist() == [0, 0, 1, 1, 2, 2]
    assert nights["subject_1"].tolist() == [0, 1, 1, 3]
    assert nights["subject_1"].dtype == np.int8


@pytest.mark.slow
def test_the_fit_finds_the_model_again(groups, tmp_path):
    """From nights that the model simulated, the command makes a model that simulates such nights."""
    nights = {f"subject_{i}": night for i, night in enumerate(groups["training"][1][:60])}
    nights |= {f"subject_test_{i}": night for i, night in enumerate(groups["test"][1][:12])}
    labels, out = tmp_path / "labels.pickle", tmp_path / "again.yaml"
    write_pickle({name: labels_of(night) for name, night in nights.items()}, labels)
    command = [sys.executable, "-m", "benchmarks.simulator.hypnogram_fit", str(labels), "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "fitted to 60 + 12 recordings" in done.stdout
    again = load(HypnogramModel, out)
    assert load(HypnogramModel, out, mode="test").observed.nights == 12
    assert again.observed.nights == 60 and "60 training recordings" in again.source
    truth = describe(groups["training"][1][:60])
    assert again.observed.transitions["N2"]["N3"] == pytest.approx(truth["transitions"]["N2"]["N3"], rel=1e-3)
    found = describe([simulate_hypnogram(again, 7, i) for i in range(60)])
    assert np.abs(row(found["share"]) - row(truth["share"])).max() < 0.06
    for key in KEYS:
        assert np.abs(row(found["transitions"][key]) - row(truth["transitions"][key])).max() < 0.05, key
        assert bout_distance(found["bouts"][key]["cumulative"], truth["bouts"][key]["cumulative"]) < 0.1
    assert found["first_min"]["R"][2] == pytest.approx(truth["first_min"]["R"][2], abs=35)
    ours = groups["training"][0]
    for key in KEYS:
        refitted, planted = getattr(again.stages, key), getattr(ours.stages, key)
        assert refitted.tendency == pytest.approx(planted.tendency, abs=0.08)
        # Odds that were planted: after R and a short awakening, R comes back.
    back, planted = (model.stages.W.next.chances("R", len(model.cycle_from_min), 2)[2] for model in (again, ours))
    assert back == pytest.approx(planted, abs=0.12) and planted > 0.5


def test_the_command_refuses_what_it_cannot_fit(tmp_path, capsys):
    assert command_line.run(main, [str(tmp_path / "none.pickle")]) == 2
    assert "none.pickle: file not found" in capsys.readouterr().err
    labels, out = tmp_path / "labels.pickle", tmp_path / "out.yaml"
    night = np.repeat([WAKE, N2, N3, REM], [20, 100, 100, 50])
    write_pickle({"subject_0": labels_of(night)}, labels)
    assert command_line.run(main, [str(labels), "--out", str(out)]) == 2
    assert "subject_test_*" in capsys.readouterr().err
    write_pickle({"subject_0": labels_of(night), "subject_test_0": labels_of(night)}, labels)
    assert command_line.run(main, [str(labels), "--out", str(out)]) == 2
    assert "fewer than 20 bouts of W" in capsys.readouterr().err
    awake = labels_of(np.zeros(50, int))
    write_pickle({"subject_0": awake, "subject_test_0": labels_of(night)}, labels)
    assert command_line.run(main, [str(labels), "--out", str(out)]) == 2
    assert "without any N2, N3 or R" in capsys.readouterr().err
    assert not out.exists()
