"""What happens to memory in a stretch of sleep: responses to cues, and reactivations without a cue.

A cue evokes what any sound evokes (a K-complex or not, a small potential) and, unless it fails to reactivate,
the item part, multiplied by the gate: how far the brain lets a cue through, by phase of the slow oscillation,
and by a spindle that follows. Everything planned is returned as a table: the truth that analyses are measured
against.

With the shares of params/simulation.yaml the mean gate of cues at random times in N2 and N3 is 1 within 0.15,
so `memory.strength` means the same with and without the gate. The dependence is planted: no result on
simulated data shows that memory depends on the phase.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.formats.tfrecords import STAGING_SAMPLES
from sleep_interpreter.data.simulation.random_numbers import variation
from sleep_interpreter.data.simulation.scene import Scene
from sleep_interpreter.data.simulation.settings import NO_GROUP, Gate, Memory, Simulation, Spontaneous
from sleep_interpreter.data.simulation.subject import RESPONSE_S, SIZE_SD, Subject, propensity
from sleep_interpreter.utils.core.constants import STREAM_RATE

_LENGTH = round(RESPONSE_S * STREAM_RATE)
_RandomNumbers = Callable[[str], np.random.Generator]
"""Returns the generator of one quantity."""


def plan_cues(
    subject: Subject, scene: Scene, onsets: np.ndarray, items: np.ndarray, purpose: Sequence[str | int]
) -> pd.DataFrame:
    """Plan what cues evoke in a scene, and add it: K-complexes, sound responses, item parts.

    `scene` is not rendered yet; `onsets` (n,) are the samples of the cues of `items` (n,), increasing, in N2, N3 or R;
    another `purpose` draws other responses. Returned by cue: onset_s, sample, item, item_index, stage, so_group,
    so_phase_rad, spindle_coupled, gate, reactivated, gain (of the item part relative to `memory.semantic_uv`; 0 if
    nothing is reactivated), latency_s (of the item part's centre after the cue; NaN if nothing is reactivated), evoked
    (a K-complex), evoked_amplitude_uv (NaN without one).
    """
    memory = subject.settings.memory
    onsets, items = np.asarray(onsets, int), np.asarray(items, int)
    n, stages = len(onsets), _stages_at(scene, onsets)

    def rng(kind: str) -> np.random.Generator:  # one of its own each: no setting shifts the other draws
        return subject.generator(*purpose, "cues", kind)

    gate = open_gate(subject.settings.gate, scene, onsets)
    reactivated = rng("reactivated").random(n) < memory.reactivated
    trial = variation(rng("gain"), memory.trial_sd, n)
    gain = reactivated * trial * _strengths(subject, items, stages) * gate["gate"].to_numpy()
    delay, stretch, jitter_sd = _timings(memory, stages)
    jitter = jitter_sd * rng("jitter").standard_normal(n)
    middle = np.array([np.mean([c.latency for c in item]) for item in subject.components["semantic"]])
    latency = delay + jitter + stretch * middle[items]
    sizes = variation(rng("sound"), SIZE_SD, n)
    complexes, evoked = _evoke(subject.settings, rng, onsets / STREAM_RATE, stages, scene.events)
    scene.add_events("slow_oscillation", complexes[evoked])

    def response(k: int) -> np.ndarray:
        own = subject.sleep_response(items[k], stages[k], _LENGTH, gain[k], jitter[k])
        return own + subject.sound_response(stages[k], _LENGTH, sizes[k])

    scene.add_signal(Responses(len(subject.head.names), onsets, _LENGTH, response))
    return pd.DataFrame(
        {
            "onset_s": onsets / STREAM_RATE, "sample": onsets, "item": subject.items[items],
            "item_index": items, "stage": stages, **gate, "reactivated": reactivated, "gain": gain,
            "latency_s": np.where(reactivated, latency, np.nan), "evoked": evoked,
            "evoked_amplitude_uv": complexes["amplitude_uv"].where(evoked).to_numpy(),
        }
    )  # fmt: skip


def plan_reactivations(
    subject: Subject, scene: Scene, purpose: Sequence[str | int], cues: Sequence[float] | pd.Series = ()
) -> pd.DataFrame:
    """Plan reactivations that no cue calls forth, and add them to a scene that is not rendered yet.

    None begins within `RESPONSE_S` after one of `cues` (onsets in s), so the rates are those of the time outside cues.
    Returned by onset: onset_s, item, item_index, stage, gain (of the item part relative to `memory.semantic_uv`),
    in_up_state (bool: placed in the up-state after a slow oscillation's trough). What has no strength is none of them:
    with `memory.strength` 0 there are no rows.
    """
    memory, plan = subject.settings.memory, subject.settings.memory.spontaneous

    def rng(kind: str) -> np.random.Generator:
        return subject.generator(*purpose, "reactivations", kind)

    onsets, in_up_state = _spontaneous_onsets(plan, rng, scene)
    ordered = np.sort(np.asarray(cues, float))
    before = np.searchsorted(ordered, onsets, "right")
    free = onsets - np.concatenate([[-np.inf], ordered])[before] >= RESPONSE_S
    # Drawn for all of them, so that cues take some away and change no other.
    items = rng("items").choice(subject.n_items, len(onsets), p=propensity(subject))[free]
    trial = variation(rng("gain"), memory.trial_sd, len(onsets))[free]
    jitter = rng("jitter").standard_normal(len(onsets))[free]
    onsets, in_up_state = onsets[free], in_up_state[free]
    samples = np.rint(onsets * STREAM_RATE).astype(int)
    stages = _stages_at(scene, samples)
    gain = plan.gain * trial * _strengths(subject, items, stages)
    jitter *= _timings(memory, stages)[2]

    def response(k: int) -> np.ndarray:
        return subject.sleep_response(items[k], stages[k], _LENGTH, gain[k], jitter[k])

    scene.add_signal(Responses(len(subject.head.names), samples, _LENGTH, response))
    planted = pd.DataFrame(
        {
            "onset_s": samples / STREAM_RATE, "item": subject.items[items], "item_index": items,
            "stage": stages, "gain": gain, "in_up_state": in_up_state,
        }
    )  # fmt: skip
    return planted[gain > 0].reset_index(drop=True)


class Responses:
    """Responses that begin at given samples, summed for whatever stretch is asked for.

    Each is made whole and cut, so the numbers do not depend on the stretch. `onsets` (n,) increase; `make(k)` returns
    response k, (n_head, length) in µV.
    """

    def __init__(self, n_head: int, onsets: np.ndarray, length: int, make: Callable[[int], np.ndarray]) -> None:
        self._n_head, self._onsets, self._length = n_head, onsets, length
        self._make = lru_cache(maxsize=4)(make)  # those that a stretch ends in are asked for again

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """Return the sum from sample `start` to `stop`, (n_head, stop - start) in µV."""
        total = np.zeros((self._n_head, stop - start))
        first = np.searchsorted(self._onsets, start - self._length, "right")
        for k in range(int(first), int(np.searchsorted(self._onsets, stop))):
            onset = int(self._onsets[k])
            low, high = max(start, onset), min(stop, onset + self._length)
            total[:, low - start : high - start] += self._make(k)[:, low - onset : high - onset]
        return total


def open_gate(settings: Gate, scene: Scene, samples: np.ndarray) -> pd.DataFrame:
    """Return the gate for cues at given samples of a scene, whose planted events give the true phase.

    Columns: so_group (one of `SO_GROUPS` or "none"), so_phase_rad (NaN with "none" and outside the oscillation),
    spindle_coupled (bool), gate (factor of the item part).
    """
    number, phase = scene.phase(samples)
    groups = np.array([*SO_GROUPS, NO_GROUP])[number]  # -1 is the last one
    coupled = spindle_follows(scene.events["spindle"], samples / STREAM_RATE, settings.spindle_window_s)
    share = np.array([settings.share[group] for group in groups], float)
    return pd.DataFrame(
        {
            "so_group": groups.astype(object), "so_phase_rad": phase, "spindle_coupled": coupled,
            "gate": share * (1 + settings.spindle_gain * coupled),
        }
    )  # fmt: skip


def spindle_follows(spindles: pd.DataFrame, seconds: np.ndarray, window_s: float) -> np.ndarray:
    """Say whether a spindle begins within `window_s` after each of the times `seconds` (n,), bool (n,)."""
    starts = np.sort(spindles["start_s"].to_numpy(float))
    return np.searchsorted(starts, seconds + window_s, "right") > np.searchsorted(starts, seconds, "left")


def _stages_at(scene: Scene, samples: np.ndarray) -> np.ndarray:
    """Return the stage at given samples, object array (n,); refuses those in which nothing is reactivated."""
    epochs = np.minimum(samples // STAGING_SAMPLES, len(scene.stages) - 1)
    stages = np.array(scene.stages, object)[epochs]
    awake = ~np.isin(stages, ("N2", "N3", "R"))
    if awake.any():
        at = samples[awake][0] / STREAM_RATE
        raise ValueError(f"a cue or reactivation at {at:.1f} s falls in stage {stages[awake][0]}, not in sleep")
    return stages


def _strengths(subject: Subject, items: np.ndarray, stages: np.ndarray) -> np.ndarray:
    gains = subject.settings.memory.stage_gain
    return subject.strength[items] * np.array([getattr(gains, stage) for stage in stages], float)


def _timings(memory: Memory, stages: np.ndarray) -> np.ndarray:
    """Return delays in s, stretches and the jitter's standard deviations in s for given stages, (3, n)."""
    timings = [memory.timing.of(stage) for stage in stages]
    return np.array([(t.delay_s, t.stretch, t.jitter_s) for t in timings]).reshape(-1, 3).T


def _evoke(
    settings: Simulation, rng: _RandomNumbers, seconds: np.ndarray, stages: np.ndarray, events: dict[str, pd.DataFrame]
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a K-complex for every cue, as rows of slow oscillations, and which of them the cues evoke.

    A cue that meets a slow oscillation, or has one follow before the evoked one would be over, evokes none.
    """
    n, sound, waves = len(seconds), settings.memory.sound, events["slow_oscillation"]
    share = np.array([sound.share.get(stage, 0.0) for stage in stages])
    half, up = 0.5 * rng("evoked down").uniform(0.34, 0.46, n), rng("evoked up").uniform(0.5, 0.8, n)
    trough = seconds + np.clip(0.55 + rng("evoked late").normal(0, 0.03, n), 0.48, 0.65)
    rows = pd.DataFrame(
        {
            "start_s": trough - half - 0.2, "trough_start_s": trough - half, "trough_s": trough,
            "up_start_s": trough + half, "peak_s": trough + half + 0.5 * up, "end_s": trough + half + up,
            "amplitude_uv": rng("evoked size").uniform(*sound.amplitude_uv, n),
            "kind": "evoked", "origin": "FCz",
            "speed_m_s": rng("evoked speed").uniform(*settings.stages.slow_waves.speed_m_s, n),
            "stage": stages,
        }
    )  # fmt: skip
    starts, ends = (np.sort(waves[name].to_numpy(float)) for name in ("start_s", "end_s"))
    busy = np.searchsorted(starts, rows["end_s"], "left") > np.searchsorted(ends, seconds, "right")
    return rows, (rng("evoked").random(n) < share) & ~busy


def _spontaneous_onsets(plan: Spontaneous, rng: _RandomNumbers, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Return onsets in s, increasing, and whether they were placed in an up-state."""
    epochs, waves = np.array(scene.stages, object), scene.events["slow_oscillation"]
    epoch_s = STAGING_SAMPLES / STREAM_RATE
    drawn, preferred = [np.zeros(0)], [np.zeros(0, bool)]
    for stage, per_min in plan.per_min.items():
        own = np.flatnonzero(epochs == stage)
        draw = rng(stage)
        count = draw.poisson(per_min * len(own) * epoch_s / 60)
        anywhere, within = draw.random(count), draw.random(count)
        preferring, which = draw.random(count) < plan.up_state_share, draw.random(count)
        times = epoch_s * (own[(anywhere * len(own)).astype(int)] + within) if count else np.zeros(0)
        here = waves[(waves["stage"] == stage) & (waves["kind"] != "evoked")]  # those follow cues
        if len(here) and count:
            low, high = (here[name].to_numpy()[(which * len(here)).astype(int)] for name in ("up_start_s", "peak_s"))
            times = np.where(preferring, low + within * (high - low), times)
        else:
            preferring = np.zeros(count, bool)
        drawn.append(times)
        preferred.append(preferring)
    onsets, placed = np.concatenate(drawn), np.concatenate(preferred)
    # A wave's end may reach into an epoch of another stage, or beyond the scene.
    samples = np.rint(onsets * STREAM_RATE).astype(int)
    inside = np.flatnonzero(samples < scene.n)
    stages = epochs[np.minimum(samples[inside] // STAGING_SAMPLES, len(epochs) - 1)]
    inside = inside[np.isin(stages, tuple(plan.per_min))]
    order = inside[np.argsort(onsets[inside], kind="stable")]
    return onsets[order], placed[order]
