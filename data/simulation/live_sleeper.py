"""A simulated sleeper who hears cues as they are played: for rehearsals and tests of a session.

The night is the simulator's (data/simulation/scene.py): events drawn at once, signal made block by block.
What a cue evokes cannot be planned ahead here, so it is added to the signal when it is asked for, with the
same responses, gated by the same slow oscillations and spindles as in a planned night (evoked K-complexes
excepted: those belong to the events that are drawn at once).
"""

from collections import deque
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from sleep_interpreter.data.simulation.cues import open_gate
from sleep_interpreter.data.simulation.events import five_stages
from sleep_interpreter.data.simulation.hypnogram import load_hypnogram, simulate_hypnogram
from sleep_interpreter.data.simulation.random_numbers import variation
from sleep_interpreter.data.simulation.scene import Scene
from sleep_interpreter.data.simulation.settings import FiveStage, SleepKey, load_settings
from sleep_interpreter.data.simulation.subject import RESPONSE_S, SIZE_SD, Subject
from sleep_interpreter.utils.core.constants import STAGING_SECONDS, STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError

_LENGTH = round(RESPONSE_S * STREAM_RATE)
_COUNTED = 2**15  # counters begin again here, µV
_EPOCH = round(STAGING_SECONDS * STREAM_RATE)


class SleeperSettings(Protocol):
    """Which sleeper, and which part of the night: `realtime.Parameters.source.SimulateSettings`."""

    preset: str
    overrides: tuple[str, ...]
    subject: int
    hours: float
    start_minutes: float
    stage: FiveStage | None
    counters: int


@dataclass(frozen=True)
class Played:
    """A cue that the sleeper heard, with the stage ("W", "N1", "N2", "N3", "R"); gain 0 if it reactivated nothing."""

    item: int
    onset: int
    stage: str
    gain: float


class LiveSleeper:
    """A sleeper whose night is made as time goes by: `n` samples at 500 Hz, `stages` one each 30 s.

    `card` has the items that the sleeper has learnt.
    """

    def __init__(self, settings: SleeperSettings) -> None:
        simulation = load_settings(settings.preset, settings.overrides)
        if settings.subject >= simulation.cohort.test_subjects:
            raise UserError(
                f"source.simulate.subject = {settings.subject}: the preset {settings.preset!r} has test "
                f"subjects 0 to {simulation.cohort.test_subjects - 1}"
            )
        self.card = simulation.card
        self._subject = Subject(simulation, "test", settings.subject)
        epochs = max(1, round(settings.hours * 3600 / STAGING_SECONDS))
        if settings.stage is not None:
            self.stages: list[str] = [settings.stage] * epochs
        else:  # shorter nights are the beginning of one that the model knows
            model = load_hypnogram(overrides=[f"hours={max(8.0, settings.hours)}"])
            codes = simulate_hypnogram(model, simulation.seed, "test", settings.subject)[:epochs]
            self.stages = five_stages(self._subject.generator("live", "stages"), codes, simulation.stages)
        first = round(settings.start_minutes * 60 / STAGING_SECONDS)
        if first >= len(self.stages):
            raise UserError(f"source.simulate.start_minutes = {settings.start_minutes}: the night has ended by then")
        self.stages = self.stages[first:]
        self._scene = Scene(self._subject, ("live", settings.stage or "night"), self.stages)
        self._counters = settings.counters
        self.names = (*self._scene.names, *(f"COUNTER{k + 1}" for k in range(self._counters)))
        self.n = self._scene.n
        self._responses: deque[tuple[int, np.ndarray]] = deque()
        self.played: list[Played] = []

    def stage_at(self, sample: int) -> str:
        """Return the stage at a sample."""
        return self.stages[min(sample // _EPOCH, len(self.stages) - 1)]

    def phase_at(self, samples: np.ndarray) -> np.ndarray:
        """Return the planted phase of the slow oscillation at samples, degrees; NaN outside of one."""
        return np.degrees(self._scene.phase(np.asarray(samples))[1])

    def disturbances(self) -> np.ndarray:
        """Return onset and end of every planted arousal and movement, (m, 2) s."""
        tables = [self._scene.events[name][["start_s", "duration_s"]] for name in ("arousal", "movement")]
        return np.concatenate([table.to_numpy(float).cumsum(axis=1) for table in tables])

    def hear(self, item: int, onset: int) -> None:
        """Let the sleeper hear a cue at sample `onset`, which has not been rendered yet."""
        subject, stage = self._subject, self.stage_at(onset)
        gain = 0.0
        if stage in ("N2", "N3", "R"):
            memory = subject.settings.memory
            rng = subject.generator("live", "cue", onset)
            gate = open_gate(subject.settings.gate, self._scene, np.array([onset]))["gate"].to_numpy()[0]
            reactivated = rng.random() < memory.reactivated
            trial = float(np.asarray(variation(rng, memory.trial_sd)))
            gain = float(reactivated * trial * subject.strength[item] * getattr(memory.stage_gain, stage) * gate)
            jitter = memory.timing.of(stage).jitter_s * rng.standard_normal()
            size = float(np.asarray(variation(rng, SIZE_SD)))
            response = subject.sleep_response(item, stage, _LENGTH, gain, jitter)
            response = response + subject.sound_response(cast(SleepKey, stage), _LENGTH, size)
            head = self._scene.head
            self._responses.append((onset, head.referenced(response * head.gain[:, None])))
        self.played.append(Played(item, onset, stage, gain))

    def render(self, start: int, stop: int) -> np.ndarray:
        """Return samples [start, stop) of all channels, float32 (channels, stop - start) µV."""
        data = self._scene.render(start, stop)
        while self._responses and self._responses[0][0] + _LENGTH <= start:
            self._responses.popleft()
        for onset, response in self._responses:
            low, high = max(start, onset), min(stop, onset + _LENGTH)
            if low < high:
                data[: len(response), low - start : high - start] += response[:, low - onset : high - onset]
        if self._counters:
            count = (np.arange(start, stop) % _COUNTED).astype(data.dtype)
            data = np.concatenate([data, np.tile(count, (self._counters, 1))])
        return data

    def ahead(self, sample: int) -> None:
        """Make the block that holds a sample now, so that rendering it later is quick."""
        if sample < self.n:
            self._scene.render(sample, sample + 1)
