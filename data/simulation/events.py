"""When things happen in simulated sleep and wake: slow oscillations, spindles, eye movements, arousals.

Every kind is drawn from a generator of its own, so another rate of one kind changes no other.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np
import pandas as pd

from sleep_interpreter.data.simulation.settings import Physiology, StagePhysiology
from sleep_interpreter.data.simulation.waves import time_at_phase
from sleep_interpreter.utils.core.constants import N2, N3, REM, STAGING_SECONDS, WAKE

_Rng = np.random.Generator
_Events = dict[str, pd.DataFrame]

EPOCH_S = float(STAGING_SECONDS)
COLUMNS = {
    "slow_oscillation": (
        "start_s", "trough_start_s", "trough_s", "up_start_s", "peak_s", "end_s", "amplitude_uv", "kind",
        "origin", "speed_m_s", "stage",
    ),
    "spindle": (
        "start_s", "duration_s", "frequency_hz", "amplitude_uv", "kind", "so", "phase_rad", "origin", "stage",
    ),
    "alpha": ("start_s", "duration_s"),
    "eye": ("start_s", "duration_s", "kind", "amplitude_uv", "direction", "stage"),
    "sawtooth": ("start_s", "duration_s", "frequency_hz", "amplitude_uv"),
    "arousal": ("start_s", "duration_s", "stage"),
    "movement": ("start_s", "duration_s", "stage"),
}  # fmt: skip
"""Columns of every kind of event. "alpha" holds the times of closed eyes in wake."""
TRAITS = ("background", "alpha", "slow_oscillation", "spindle")
"""What is larger in some people than in others."""
ARTEFACTS = ("arousal", "movement")
"""Kinds that a clean scene has none of."""

_ORIGINS = ("AF3", "AF4", "F3", "Fz", "F4", "FCz", "FC3", "FC4", "Cz", "CPz", "Pz")
_ORIGIN_SHARES = np.array([2, 2, 3, 4, 3, 4, 2, 2, 2, 1, 1]) / 26
"""Where slow oscillations arise: most of them in front (Massimini et al. 2004)."""
_SPINDLE_ORIGINS = {"slow": ("F3", "Fz", "F4"), "fast": ("C3", "Cz", "C4", "CP3", "CPz", "CP4", "Pz")}
_SUBJECT_SD_HZ = 0.25  # of spindle frequencies between subjects
_AROUSAL_S = (3.0, 15.0)  # (AASM)
_MOVEMENT_S = (2.0, 8.0)
_BLINK_S = (0.2, 0.4)
_AT_ONCE_S = 0.1  # from one event of a train to the next
_SAWTOOTH_S, _SAWTOOTH_HZ = (2.0, 8.0), (2.0, 5.0)


def draw_events(
    rng_of: Callable[[str], _Rng], stages: Sequence[str], total_s: float, settings: Physiology,
    person: dict[str, float], fixed: _Events, clean: bool,
) -> _Events:  # fmt: skip
    """Draw all events of a scene, by kind, with the columns of `COLUMNS`, by onset.

    `rng_of(kind)` returns the generator of a kind. `stages` has "W", "N1", "N2", "N3" or "R" of every 30 s; the last
    one holds to the end. `person` says what the subject's amplitudes are multiplied by, by `TRAITS`. The kinds in
    `fixed` are given, not drawn; a `clean` scene has no arousals and movements.
    """
    plan = _Plan(stages, total_s, settings, person)
    makers = (_slow_oscillations, _spindles, _closed_eyes, _eye_movements, _sawtooth, _arousals, _movements)
    events: _Events = {}
    for kind, make in zip(COLUMNS, makers, strict=True):  # spindles look at slow oscillations, blinks at closed eyes
        if kind in fixed:
            table = fixed[kind]
        elif clean and kind in ARTEFACTS:
            table = _table(kind, [])
        else:
            table = make(rng_of(kind), plan, events)
        events[kind] = table.sort_values("start_s", kind="stable", ignore_index=True)
    return events


class _Plan:
    """Stages over time."""

    def __init__(self, stages: Sequence[str], total_s: float, settings: Physiology, person: dict[str, float]) -> None:
        self.stages, self.total_s, self.settings, self.person = list(stages), total_s, settings, person

    def key(self, second: float) -> str:
        return self.stages[min(int(second // EPOCH_S), len(self.stages) - 1)]

    def of(self, second: float) -> StagePhysiology:
        return self.settings.of(self.key(second))

    def bouts(self, key: str) -> Iterator[tuple[float, float]]:
        """Yield (start, stop) in s of the uninterrupted stretches of a stage; the last stage holds."""
        place = 0
        for stage, bout in groupby(self.stages):
            start, place = place * EPOCH_S, place + len(list(bout))
            if stage == key:
                last = place == len(self.stages)
                yield start, self.total_s if last else min(place * EPOCH_S, self.total_s)

    def rate(self, second: float, *names: str) -> float:
        """Return events a second: the sum of some rates of the stage, named "..._per_min" or "..._per_h"."""
        stage = self.of(second)
        return sum(getattr(stage, name) for name in names) / (60 if names[0].endswith("_min") else 3600)

    def times(
        self, rng: _Rng, rates: str | Sequence[str], mean_s: float, draw_length: Callable[[], float],
        train: float = 0.0,
    ) -> Iterator[tuple[float, float]]:  # fmt: skip
        """Yield (start, length) of events that do not overlap, within the scene.

        `rates` names their rates, `mean_s` is the mean length, `draw_length()` returns one, and after a share `train`
        of the events the next one follows at once.
        """
        names = (rates,) if isinstance(rates, str) else rates
        now = 0.0
        while now < self.total_s:
            stage, rate = self.key(now), self.rate(now, *names)
            boundary = (now // EPOCH_S + 1) * EPOCH_S
            if now >= len(self.stages) * EPOCH_S:
                boundary = self.total_s
            if rate <= 0:
                now = boundary
                continue
            rest = max(1 / rate - mean_s, 0.02)
            at_once = min(_AT_ONCE_S, rest)
            if train and rng.random() < train:
                gap = at_once * rng.uniform(0.2, 1.8)
            else:
                gap = rng.exponential((rest - train * at_once) / (1 - train) if train < 1 else at_once)
            if now + gap >= boundary and self.key(boundary) != stage:
                now = boundary  # exponential gaps have no memory, so another stage starts anew
                continue
            start, length = now + gap, draw_length()
            if start + length >= self.total_s:
                return
            yield start, length
            now = start + length

    def even_times(self, rng: _Rng, rates: str, lengths_s: tuple[float, float]) -> Iterator[tuple[float, float]]:
        """Yield events like `times`, their lengths drawn evenly between two."""
        return self.times(rng, rates, sum(lengths_s) / 2, lambda: rng.uniform(*lengths_s))


def _table(kind: str, rows: list[tuple]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=COLUMNS[kind])
    numbers = [name for name in COLUMNS[kind] if name.endswith(("_s", "_hz", "_uv", "_rad"))]
    return table.astype(dict.fromkeys(numbers, float) | ({"so": int} if kind == "spindle" else {}))


def _skewed(rng: _Rng, ends: tuple[float, float]) -> float:
    """Return an amplitude between two ends, more often a small one."""
    return ends[0] + (ends[1] - ends[0]) * rng.beta(2, 3)


def _slow_oscillations(rng: _Rng, plan: _Plan, events: _Events) -> pd.DataFrame:
    waves = plan.settings.slow_waves
    parts = (waves.first_up_s, waves.down_s, waves.up_s)
    drawn: list[list[float]] = []

    def length() -> float:
        drawn.append([rng.uniform(*part) for part in parts])
        return sum(drawn[-1])

    rates = ("slow_oscillations_per_min", "k_complexes_per_min")
    mean_s = sum(sum(part) / 2 for part in parts)
    rows = []
    for start, _ in plan.times(rng, rates, mean_s, length, waves.train):
        first, down, up = drawn[-1]
        stage = plan.of(start)
        is_complex = rng.random() * 60 * plan.rate(start, *rates) < stage.k_complexes_per_min
        trough_start, up_start = start + first, start + first + down
        trough = trough_start + down * rng.uniform(0.42, 0.55)
        peak = up_start + up * rng.uniform(0.4, 0.55)
        size = _skewed(rng, stage.k_complex_uv if is_complex else stage.slow_oscillation_uv)
        origin = str(rng.choice(_ORIGINS, p=_ORIGIN_SHARES))
        knots = (start, trough_start, trough, up_start, peak, up_start + up)
        kind, speed = "k_complex" if is_complex else "so", rng.uniform(*waves.speed_m_s)
        rows.append((*knots, plan.person["slow_oscillation"] * size, kind, origin, speed, plan.key(start)))
    return _table("slow_oscillation", rows)


def _spindles(rng: _Rng, plan: _Plan, events: _Events) -> pd.DataFrame:
    spindles, waves = plan.settings.spindles, events["slow_oscillation"]
    shift = rng.normal(0, _SUBJECT_SD_HZ)
    free = np.ones(len(waves), bool)
    troughs, stages = waves["trough_s"].to_numpy(float), waves["stage"].to_numpy(object)
    rows: list[tuple] = []
    for start, length in plan.even_times(rng, "spindles_per_min", spindles.duration_s):
        key = plan.key(start)
        kind = "fast" if rng.random() < spindles.fast_share else "slow"
        low, high = spindles.fast_hz if kind == "fast" else spindles.slow_hz
        frequency = np.clip(rng.normal(low + 0.45 * (high - low), 0.2 * (high - low)) + shift, low, high)
        amplitude = plan.person["spindle"] * _skewed(rng, plan.of(start).spindle_uv)
        origin = str(rng.choice(_SPINDLE_ORIGINS[kind]))
        coupled, spread = rng.random() < spindles.coupling, rng.normal(0, spindles.phase_sd_rad)
        so, phase = -1, np.nan
        near = np.flatnonzero(free & (stages == key) & (np.abs(troughs - start) < 0.5 * EPOCH_S))
        if coupled and len(near):
            so = int(near[np.abs(troughs[near] - start).argmin()])
            free[so] = False
            wanted = spindles.slow_phase_rad if kind == "slow" else 2 * np.pi + spindles.fast_phase_rad
            angle = np.clip(wanted + spread, -0.5 * np.pi, 2.5 * np.pi)
            phase = np.pi - np.mod(np.pi - angle, 2 * np.pi)
            start = time_at_phase(waves.iloc[so], angle) - 0.5 * length
        rows.append((start, length, frequency, amplitude, kind, so, phase, origin, key))
    kept, end = list[tuple](), 0.0
    for row in sorted(rows, key=lambda row: row[0]):  # moved onto its oscillation, a spindle may meet another one
        if row[0] >= end and row[0] + row[1] < plan.total_s:
            kept.append(row)
            end = row[0] + row[1] + 0.1
    return _table("spindle", kept)


def _closed_eyes(rng: _Rng, plan: _Plan, events: _Events) -> pd.DataFrame:
    eyes = plan.settings.eyes_closed
    rows = []
    for start, stop in plan.bouts("W"):
        now, closed = start, rng.random() < eyes.share
        while now < stop:
            share = eyes.share if closed else 1 - eyes.share
            length = min(rng.exponential(2 * eyes.bout_s * share) if share < 1 else np.inf, stop - now)
            if closed and length > 0:
                rows.append((now, length))
            now, closed = now + length, not closed
    return _table("alpha", rows)


def _eye_movements(rng: _Rng, plan: _Plan, events: _Events) -> pd.DataFrame:
    settings = plan.settings
    rows: list[tuple] = []

    def add(start: float, length: float, kind: str, ends: tuple[float, float], direction: str) -> None:
        rows.append((start, length, kind, _skewed(rng, ends), direction, plan.key(start)))

    for start, length in plan.even_times(rng, "blinks_per_min", _BLINK_S):
        add(start, length, "blink", settings.blink_uv, "up")
    for start, length in plan.even_times(rng, "saccades_per_min", (0.3, 0.9)):
        add(start, length, "saccade", settings.saccade_uv, _direction(rng))
    closed = events["alpha"][["start_s", "duration_s"]].to_numpy(float)
    rows = [row for row in rows if not ((closed[:, 0] <= row[0]) & (row[0] < closed.sum(axis=1))).any()]
    for start, length in plan.even_times(rng, "saccade_bursts_per_min", (2.0, 8.0)):
        now = start
        while now < start + length:
            hold = rng.uniform(0.25, 0.8)
            add(now, hold, "saccade", settings.saccade_uv, _direction(rng))
            now += hold + rng.exponential(0.25)
    for start, length in plan.even_times(rng, "slow_eye_movements_per_min", (2.5, 5.5)):
        add(start, length, "slow", settings.slow_eye_uv, str(rng.choice(["left", "right"])))
    return _table("eye", [row for row in rows if row[0] + row[1] < plan.total_s])


def _direction(rng: _Rng) -> str:
    return str(rng.choice(["left", "right", "up", "down"], p=[0.38, 0.38, 0.12, 0.12]))


def _sawtooth(rng: _Rng, plan: _Plan, events: _Events) -> pd.DataFrame:
    times = plan.even_times(rng, "sawtooth_bursts_per_min", _SAWTOOTH_S)
    rows = [(s, length, rng.uniform(*_SAWTOOTH_HZ), _skewed(rng, plan.of(s).sawtooth_uv)) for s, length in times]
    return _table("sawtooth", rows)


def _arousals(rng: _Rng, plan: _Plan, events: _Events) -> pd.DataFrame:
    times = plan.times(rng, "arousals_per_h", 6.0, lambda: _skewed(rng, _AROUSAL_S))
    return _table("arousal", [(start, length, plan.key(start)) for start, length in times])


def _movements(rng: _Rng, plan: _Plan, events: _Events) -> pd.DataFrame:
    times = plan.even_times(rng, "movements_per_h", _MOVEMENT_S)
    return _table("movement", [(start, length, plan.key(start)) for start, length in times])


def five_stages(rng: _Rng, codes: Sequence[int] | np.ndarray, settings: Physiology) -> list[str]:
    """Split wake and N1, which have one code in hypnograms of files.

    The last epochs before sleep are N1, and so are short interruptions of sleep; how many is random, at most
    `n1_min` minutes. Wake before REM sleep passes through N1 alike.

    `codes` are 0 = W or N1, 1 = N2, 2 = N3, 3 = R, for every 30 s; what is returned is "W", "N1", "N2", "N3" or "R".
    """
    names = {N2: "N2", N3: "N3", REM: "R"}
    most = int(settings.n1_min * 60 / EPOCH_S)
    stages: list[str] = []
    for code, bout in groupby(int(code) for code in codes):
        length = len(list(bout))
        if code != WAKE:
            stages += [names[code]] * length
            continue
        drowsy = min(int(rng.integers(1, most + 1)) if most else 0, length)
        if len(stages) + length == len(codes):
            drowsy = 0
        elif drowsy == length and not stages and length > 1:
            drowsy -= 1  # a night begins awake
        stages += ["W"] * (length - drowsy) + ["N1"] * drowsy
    return stages
