"""The gate: the item part by phase of the slow oscillation and by spindles, and what any cue evokes."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.simulation.cues import plan_cues, spindle_follows
from sleep_interpreter.data.simulation.scene import Scene
from sleep_interpreter.data.simulation.settings import Gate, load_settings
from sleep_interpreter.data.simulation.subject import Subject
from sleep_interpreter.utils.core.errors import UserError


@cache
def night(stage, *overrides, minutes=120):
    """Return subject, scene and cue table of cues every 5.1 s in one stage; nothing is rendered."""
    subject = Subject(load_settings("test", overrides), "test", 0)
    scene = Scene(subject, ("gate", stage), [stage] * (2 * minutes), clean=True)
    before = {kind: len(table) for kind, table in scene.events.items()}
    onsets = np.arange(3000, scene.n - 1500, 2550)
    cues = plan_cues(subject, scene, onsets, np.arange(len(onsets)) % 15, ("gate", stage))
    return subject, scene, cues, before


def test_the_gate_is_the_share_of_the_true_phase_times_that_of_a_spindle():
    subject, scene, cues, _ = night("N3")
    settings = subject.settings.gate
    starts = scene.events["spindle"]["start_s"].to_numpy()
    for cue in cues.itertuples():
        follows = ((starts >= cue.onset_s) & (starts <= cue.onset_s + settings.spindle_window_s)).any()
        assert cue.spindle_coupled == follows
        factor = 1 + settings.spindle_gain if follows else 1
        assert cue.gate == pytest.approx(settings.share[cue.so_group] * factor)
    assert set(cues["so_group"]) == {*SO_GROUPS, "none"}
    assert cues["so_phase_rad"].isna()[cues["so_group"] == "none"].all()
    own = cues["so_phase_rad"].notna()
    assert cues["so_phase_rad"][own].abs().max() <= 2 * np.pi and own.mean() > 0.2


def test_the_item_part_is_strongest_in_the_up_state_that_follows_and_next_to_nothing_in_the_down_state():
    subject, _, cues, _ = night("N3")
    whole = subject.strength[cues["item_index"]] * subject.settings.memory.stage_gain.N3
    share = (cues["gain"] / whole).groupby(cues["so_group"]).mean()
    assert share.idxmax() == "2nd-Up"
    assert share["Down"] < 0.1 < share["trans-Down"] < share["none"] < share["2nd-Up"]
    coupled = (cues["gain"] / whole / cues["gate"]).groupby(cues["spindle_coupled"]).mean()
    assert coupled[True] == pytest.approx(coupled[False], abs=0.12)  # the gate is all that spindles change


@pytest.mark.parametrize("stage", ["N2", "N3", "R"])
def test_the_mean_gate_of_cues_at_random_is_near_one(stage):
    cues = night(stage)[2]
    assert cues["gate"].mean() == pytest.approx(1, abs=0.15)
    if stage == "R":
        assert (cues["so_group"] == "none").all() and (cues["gate"] == 1).all()


def test_a_spindle_counts_from_the_cue_to_the_end_of_the_window():
    spindles = pd.DataFrame({"start_s": [7.0, 2.0]})
    seconds = np.array([0.4, 0.5, 2.0, 2.1, 6.9, 7.1])
    found = spindle_follows(spindles, seconds, 1.5)
    assert found.tolist() == [False, True, True, False, True, False]
    assert not spindle_follows(pd.DataFrame({"start_s": []}), seconds, 1.5).any()


def test_reactivations_are_as_frequent_and_as_strong_as_set():
    _, _, cues, _ = night("N2", "memory.reactivated=0.6", "memory.subject_sd=0", "memory.item_strength=0")
    assert cues["reactivated"].mean() == pytest.approx(0.6, abs=0.05)
    assert not cues["gain"][~cues["reactivated"]].any() and cues["latency_s"][~cues["reactivated"]].isna().all()
    trial = (cues["gain"] / cues["gate"] / 0.9)[cues["reactivated"] & (cues["gate"] > 0)]
    assert np.log(trial).std() == pytest.approx(0.3, abs=0.03)
    assert trial.mean() == pytest.approx(1, abs=0.04)
    latency = cues["latency_s"].dropna()
    assert latency.min() > 0.6 and latency.max() < 1.3


def test_cues_evoke_k_complexes_in_nrem_more_often_in_n2_than_in_n3_and_never_in_rem():
    shares = {}
    for stage in ("N2", "N3", "R"):
        _, scene, cues, before = night(stage)
        waves = scene.events["slow_oscillation"]
        evoked = waves[waves["kind"] == "evoked"]
        assert len(waves) == before["slow_oscillation"] + len(evoked)
        assert len(evoked) == cues["evoked"].sum() == cues["evoked_amplitude_uv"].notna().sum()
        late = evoked["trough_s"].to_numpy() - cues["onset_s"][cues["evoked"]].to_numpy()
        if stage != "R":
            assert late.min() > 0.47 and late.max() < 0.66
            assert evoked["amplitude_uv"].between(80, 180).all()
        shares[stage] = cues["evoked"].mean()
    assert 0.25 < shares["N2"] < 0.55
    assert 0.03 < shares["N3"] < shares["N2"]
    assert shares["R"] == 0


def test_a_cue_that_meets_a_slow_oscillation_evokes_none():
    cues = night("N3")[2]
    during = cues["so_group"].isin(["1st-Up", "trans-Down", "Down", "trans-2nd-Up", "2nd-Up"])
    assert during.any() and not cues["evoked"][during].any()


def test_the_evoked_response_is_in_the_signal_the_same_for_all_items():
    _, scene, cues, _ = night("N2", "memory.strength=0", minutes=5)
    raw = scene.render(0, scene.n)
    vertex = raw[scene.names.index("FCz")]
    mean = {
        evoked: np.mean([vertex[s : s + 900] for s in cues["sample"][cues["evoked"] == evoked]], axis=0)
        for evoked in (True, False)
    }
    trough = int(mean[True].argmin())
    assert 0.45 < trough / 500 < 0.7 and mean[True][trough] < -25
    assert mean[True][350:].max() > 8 and 0.8 < (350 + mean[True][350:].argmax()) / 500 < 1.3
    assert np.abs(mean[False]).max() < 0.6 * np.abs(mean[True]).max()


def test_settings_change_nothing_else():
    usual = night("N3", minutes=20)[2]
    changed = night("N3", "gate.share.Down=2", minutes=20)[2]
    down = usual["so_group"] == "Down"
    assert down.any()
    assert usual[~down].equals(changed[~down])
    reactivated = down & usual["reactivated"]
    assert (changed["gain"][reactivated] > usual["gain"][reactivated]).all()
    silent = night("N3", "memory.strength=0", minutes=20)[2]
    same = ["so_group", "gate", "reactivated", "evoked", "evoked_amplitude_uv", "latency_s"]
    assert usual[same].equals(silent[same]) and not silent["gain"].any()


def test_cues_in_wake_are_refused():
    subject = Subject(load_settings("test"), "test", 0)
    scene = Scene(subject, ("wake",), ["W", "N1", "N2"], clean=True)
    with pytest.raises(ValueError, match=r"at 32\.0 s falls in stage N1"):
        plan_cues(subject, scene, [16_000, 40_000], [0, 1], ("wake",))


def test_every_group_needs_a_share():
    share = {group: 1.0 for group in (*SO_GROUPS, "none")}
    assert Gate(share=share, spindle_gain=0, spindle_window_s=1).share == share
    del share["none"]
    with pytest.raises(ValueError, match="share lacks the key 'none'"):
        Gate(share=share, spindle_gain=0, spindle_window_s=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("gate.share.Down=-1", r"gate\.share\.Down.*greater than or equal to 0"),
        ("gate.share.down=1", r"gate\.share\.down.*'Pre-SO', 'trans-1st-Up'"),
        ("gate.share=2", r"gate\.share = 2: .*dict"),
        ("gate.spindle_gain=-0.5", r"gate\.spindle_gain.*greater than or equal to 0"),
        ("gate.spindle_window_s=10", r"gate\.spindle_window_s.*less than or equal to 3"),
    ],
)
def test_nonsense_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        load_settings("test", [change])
