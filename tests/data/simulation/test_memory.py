"""The planted memory: patterns, time courses, strengths, reactivations without a cue, memory scores."""

from functools import cache

import numpy as np
import pytest

from sleep_interpreter.data.simulation.cues import plan_cues, plan_reactivations
from sleep_interpreter.data.simulation.scene import Scene
from sleep_interpreter.data.simulation.settings import load_settings
from sleep_interpreter.data.simulation.subject import (
    EARLY_S,
    RESPONSE_S,
    SEMANTIC_S,
    Subject,
    memory_scores,
    propensity,
)
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError

EEG_MONTAGE = published().channels
ITEMS = published().item_names


def person(*overrides, number=0, group="train"):
    """Return a subject of preset test with changed settings."""
    return Subject(_settings(overrides), group, number)


@cache
def _settings(overrides):
    return load_settings("test", overrides)


def scene_of(subject, stage, minutes, purpose="memory"):
    """Return a clean scene of one stage."""
    return Scene(subject, (purpose, stage), [stage] * (2 * minutes), clean=True)


def test_patterns_have_size_one_after_the_common_average_and_latencies_lie_in_their_ranges():
    arrays = person().component_arrays()
    assert arrays["semantic_pattern"].shape[:2] == (15, 3)
    for kind, (low, high) in {"semantic": SEMANTIC_S, "image": EARLY_S, "audio": EARLY_S}.items():
        eeg = arrays[f"{kind}_pattern"][..., : len(EEG_MONTAGE)]
        assert np.allclose(eeg.std(axis=-1), 1)
        latency = arrays[f"{kind}_latency_s"]
        assert low - 0.05 < latency.min() and latency.max() < high + 0.05
        assert latency.std() > 0.02
    across = np.corrcoef(arrays["semantic_pattern"].reshape(45, -1))
    assert np.abs(across[np.triu_indices(45, 1)]).mean() < 0.5  # items differ


def _alike(similarity):
    """Mean correlation of the same patterns between three subjects."""
    subjects = [person(f"memory.similarity={similarity}", number=number) for number in range(3)]
    patterns = [subject.component_arrays()["semantic_pattern"][..., :55].reshape(45, 55) for subject in subjects]
    pairs = [(0, 1), (0, 2), (1, 2)]
    return np.mean([np.corrcoef(a, b)[0, 1] for i, j in pairs for a, b in zip(patterns[i], patterns[j], strict=True)])


def test_subjects_are_as_alike_as_the_setting_says():
    none, usual, same = _alike(0), _alike(0.8), _alike(1)
    assert abs(none) < 0.15
    assert 0.6 < usual < 0.9
    assert 0.85 < same < 1  # the same sources, but every head is another one


def test_a_subject_is_the_same_whoever_else_there_is():
    large = person("cohort.train_subjects=90", "cohort.test_subjects=9", number=2)
    for key, values in person(number=2).component_arrays().items():
        assert np.array_equal(values, large.component_arrays()[key])
    other = person(number=3).component_arrays()["semantic_pattern"]
    assert not np.array_equal(other, large.component_arrays()["semantic_pattern"])
    test = person(number=2, group="test").component_arrays()["semantic_pattern"]
    assert not np.array_equal(test, large.component_arrays()["semantic_pattern"])


def test_pictures_and_sounds_have_early_parts_of_their_own_and_a_common_semantic_one():
    subject = person("memory.trial_sd=0")

    def response(modality, item):
        return subject.awake_response(np.random.default_rng(0), modality, item, 500)

    early, late = slice(50, 110), slice(250, 500)
    # What any picture evokes is the same for two items, so a difference holds item parts alone.
    image, audio = (response(modality, 3) - response(modality, 8) for modality in ("image", "audio"))
    assert np.corrcoef(image[:55, late].ravel(), audio[:55, late].ravel())[0, 1] > 0.99
    assert np.corrcoef(image[:55, early].ravel(), audio[:55, early].ravel())[0, 1] < 0.6
    assert np.abs(response("image", 3)).max() < 80
    silent = person("memory.trial_sd=0", "memory.strength=0")
    assert not (
        silent.awake_response(np.random.default_rng(0), "image", 3, 400)
        - silent.awake_response(np.random.default_rng(0), "image", 8, 400)
    ).any()


def _found_course(stage):
    """Regress a rendered scene on the patterns of one item; return its mean course (3, 1000)."""
    still = "memory.timing={NREM: {jitter_s: 0}, REM: {jitter_s: 0}}"
    subject = person("memory.strength=4", "memory.reactivated=1", still)
    scene = scene_of(subject, stage, 4)
    onsets = np.arange(1000, scene.n - 1200, 1500)
    item = 5
    cues = plan_cues(subject, scene, onsets, np.full(len(onsets), item), ("memory", stage))
    raw = scene.render(0, scene.n)[:55].astype(float)
    raw -= raw.mean(axis=0)
    patterns = np.stack([c.pattern[:55] - c.pattern[:55].mean() for c in subject.components["semantic"][item]], 1)
    courses = np.linalg.lstsq(patterns, raw, rcond=None)[0]
    gain = cues["gain"].to_numpy()
    mean = sum(g * courses[:, o : o + 1000] for g, o in zip(gain, onsets, strict=True)) / (gain**2).sum()
    return subject, subject.components["semantic"][item], mean


@pytest.mark.parametrize("stage", ["N2", "R"])
def test_the_item_part_comes_when_it_is_planted(stage):
    subject, components, found = _found_course(stage)
    timing = subject.settings.memory.timing.of(stage)
    t = np.arange(1000) / 500
    for component, course in zip(components, found, strict=True):
        planted = subject.settings.memory.semantic_uv * component.at((t - timing.delay_s) / timing.stretch)
        lags = np.arange(-60, 61)
        match = [np.corrcoef(np.roll(planted, lag), course)[0, 1] for lag in lags]
        assert max(match) > 0.8
        assert abs(lags[int(np.argmax(match))]) <= 10  # 20 ms
        assert np.dot(planted, course) / np.dot(planted, planted) == pytest.approx(1, abs=0.25)


def test_nrem_and_rem_differ_in_gain_delay_and_stretch():
    subject = person()
    nrem, deep, rem = (subject.sleep_response(2, stage, 1000)[:55] for stage in ("N2", "N3", "R"))
    assert np.array_equal(nrem, deep)
    middles = [(np.square(x).sum(axis=0) @ np.arange(1000)) / np.square(x).sum() / 500 for x in (nrem, rem)]
    components = subject.components["semantic"][2]
    timing = subject.settings.memory.timing
    latency = np.mean([c.latency for c in components])
    for middle, kind in zip(middles, (timing.NREM, timing.REM), strict=True):
        assert middle == pytest.approx(kind.delay_s + kind.stretch * latency, abs=0.15)
    assert middles[0] > middles[1] + 0.1
    assert subject.planted_latencies()[ITEMS[2]] == [
        round(timing.NREM.delay_s + timing.NREM.stretch * c.latency, 3) for c in components
    ]


def test_nothing_is_after_the_response():
    response = person().sleep_response(4, "N3", 2000)
    assert not response[:, int(RESPONSE_S * 500) :].any()
    assert np.abs(response).max() > 3
    assert np.abs(np.diff(response, axis=1, prepend=0)).max() < 1.5  # no step at either end


def test_strength_is_settable_per_stage_subject_and_item():
    factors = [round(0.1 * k, 1) for k in range(15)]
    subject = person(f"memory.item_strength={factors}", "memory.subject_sd=0", "memory.strength=2")
    assert np.allclose(subject.strength, 2 * np.array(factors))
    spread = "memory.subject_sd=0.3"
    levels = [person(spread, "memory.item_strength=0", number=number).strength[0] for number in range(400)]
    assert np.log(levels).std() == pytest.approx(0.3, abs=0.05) and np.mean(levels) == pytest.approx(1, abs=0.06)
    items = [person("memory.item_strength=0.5", "memory.subject_sd=0", number=n).strength for n in (0, 1)]
    assert np.array_equal(*items) and 0.3 < np.log(items[0]).std() < 0.7
    change = "memory.stage_gain={N2: 1, N3: 2, R: 0}"
    gains = {}
    for stage in ("N2", "N3", "R"):
        subject = person(change, "memory.reactivated=1", "memory.trial_sd=0", "gate.spindle_gain=0")
        scene = scene_of(subject, stage, 2)
        cues = plan_cues(subject, scene, np.arange(1000, 50_000, 2000), np.arange(25) % 15, ("x",))
        gains[stage] = cues["gain"] / cues["gate"] / subject.strength[cues["item_index"]]
    assert np.allclose(gains["N2"], 1) and np.allclose(gains["N3"], 2) and not gains["R"].any()


@pytest.fixture(scope="module")
def spontaneous():
    """A subject, a scene of an hour of N2, N3 and R each, cues in it and the reactivations between them."""
    subject = person("memory.spontaneous.per_min={N2: 6, N3: 10, R: 2}")
    scene = Scene(subject, ("spontaneous",), ["N2"] * 120 + ["N3"] * 120 + ["R"] * 120, clean=True)
    cues = np.arange(100.0, 1000.0, 10.0)
    return subject, scene, cues, plan_reactivations(subject, scene, ("spontaneous",), cues)


def test_spontaneous_reactivations_come_at_their_rates_and_never_right_after_a_cue(spontaneous):
    subject, scene, cues, found = spontaneous
    assert found["onset_s"].is_monotonic_increasing
    counts = found["stage"].value_counts()
    free = 60 - len(cues) * RESPONSE_S / 60  # minutes of N2 outside cues
    for stage, expected in {"N2": 6 * free, "N3": 600, "R": 120}.items():
        assert abs(counts[stage] - expected) < 4 * np.sqrt(expected)
    after = found["onset_s"].to_numpy()[:, None] - cues
    assert not ((after >= 0) & (after < RESPONSE_S)).any()
    alone = plan_reactivations(subject, scene, ("spontaneous",))
    assert len(alone) > len(found)
    kept = alone[alone["onset_s"].isin(found["onset_s"])]
    assert np.array_equal(kept["gain"], found["gain"]) and np.array_equal(kept["item"], found["item"])


def test_spontaneous_reactivations_prefer_up_states_and_some_items(spontaneous):
    subject, scene, _, found = spontaneous
    deep = found[found["stage"] == "N3"]
    assert deep["in_up_state"].mean() == pytest.approx(0.7, abs=0.08)
    group, _ = scene.phase(np.rint(deep["onset_s"].to_numpy() * 500).astype(int))
    late = np.isin(group, (5, 6))  # the transition to the second up-state, and it
    assert late[deep["in_up_state"]].mean() > 0.8 > 2 * late[~deep["in_up_state"]].mean()
    assert not found.loc[found["stage"] == "R", "in_up_state"].any()
    share = found["item_index"].value_counts(normalize=True).reindex(range(15), fill_value=0)
    expected = propensity(subject)
    assert expected.sum() == pytest.approx(1) and expected.max() > 1.5 * expected.min()
    assert np.corrcoef(share, expected)[0, 1] > 0.6
    both = np.array([propensity(person(number=number)) for number in range(60)])
    between = np.corrcoef(np.log(both))[np.triu_indices(60, 1)].mean()
    assert between == pytest.approx(0.5, abs=0.2)  # half of the variance is common


def test_spontaneous_reactivations_are_in_the_signal():
    change = ("memory.spontaneous.per_min={N2: 4, N3: 4, R: 4}",)
    subject = person(*change)
    with_signal, without = (scene_of(subject, "N2", 1) for _ in range(2))
    found = plan_reactivations(subject, with_signal, ("signal",))
    difference = with_signal.render(0, 30_000) - without.render(0, 30_000)
    onsets = np.rint(found["onset_s"].to_numpy() * 500).astype(int)
    near = np.zeros(30_000, bool)
    for onset in onsets:
        near[onset : onset + 1000] = True
    assert len(found) > 1 and np.abs(difference[:, ~near]).max() < 1e-3
    assert np.abs(difference[:55, near]).max() > 3
    assert len(plan_reactivations(person("memory.spontaneous.per_min={N2: 0, N3: 0, R: 0}"), without, ("x",))) == 0


def test_what_has_no_strength_is_not_called_planted():
    """Neither the truth nor the annotations name reactivations of which nothing is in the signal."""
    subject = person("memory.spontaneous.per_min={N2: 20, N3: 4, R: 4}", "memory.strength=0")
    found = plan_reactivations(subject, scene_of(subject, "N2", 1), ("signal",))
    assert len(found) == 0 and "onset_s" in found


@pytest.mark.parametrize("r", [-0.4, 0.0, 0.5, 0.9])
def test_memory_scores_correlate_with_reactivation_as_planted(r):
    found, scores = [], []
    for number in range(300):
        subject = person(f"memory.behaviour_r={r}", number=number)
        counts = np.random.default_rng(number).poisson(20, 15) * subject.strength
        score = memory_scores(subject, counts)
        found.append(np.corrcoef(counts, score)[0, 1])
        scores.append(score)
    assert np.mean(found) == pytest.approx(r, abs=0.04)
    scores = np.array(scores)
    assert scores.min() > 0 and scores.max() < 1
    assert scores.mean() == pytest.approx(0.6, abs=0.03)
    assert scores.std(axis=1).mean() == pytest.approx(0.15, abs=0.03)
    assert scores.mean(axis=1).std() == pytest.approx(0.1, abs=0.03)


def test_some_items_are_easier_for_everybody():
    settings = load_settings("test")
    scores = np.array([memory_scores(Subject(settings, "train", n), np.ones(15)) for n in range(80)])
    between = np.corrcoef(scores)[np.triu_indices(80, 1)].mean()
    assert between == pytest.approx(settings.memory.behaviour.item_share, abs=0.12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("memory.strength=-1", r"memory\.strength.*greater than or equal to 0"),
        ("memory.similarity=1.2", r"memory\.similarity.*less than or equal to 1"),
        ("memory.behaviour_r=1.5", r"memory\.behaviour_r.*less than or equal to 1"),
        ("memory.timing.NREM.stretch=9", r"memory\.timing\.NREM\.stretch.*less than or equal to 2"),
        ("memory.stage_gain.R=-1", r"memory\.stage_gain\.R.*greater than or equal to 0"),
        ("memory.stage_gain.N1=1", r"memory\.stage_gain\.N1"),
        ("memory.item_strength=[1, 1]", r"memory\.item_strength"),
        ("memory.item_strength=-0.5", r"memory\.item_strength.*greater than or equal to 0"),
        ("memory.sound.share.N2=2", r"memory\.sound\.share\.N2.*less than or equal to 1"),
        ("memory.sound.amplitude_uv=[200, 75]", "the lower end comes first"),
        ("memory.spontaneous.per_min.N3=-1", r"memory\.spontaneous\.per_min\.N3.*greater than or equal to 0"),
        ("memory.behaviour.mean=1", r"memory\.behaviour\.mean.*less than 1"),
        ("memory.strenth=2", "did you mean 'memory.strength'"),
    ],
)
def test_nonsense_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        load_settings("test", [change])
