"""A stretch of simulated sleep or wake: events are drawn at once, signals are made as they are asked for.

A scene is made of blocks of 10 s, each a function of scene and number alone, so whatever is asked for in
whatever chunks has the same bytes, with any number of threads, and no more than a few blocks are held.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats.tfrecords import STAGING_SAMPLES
from sleep_interpreter.data.simulation import waves
from sleep_interpreter.data.simulation.events import COLUMNS, TRAITS, draw_events
from sleep_interpreter.data.simulation.head import EMG, sphere_points
from sleep_interpreter.data.simulation.sensors import BAD_COLUMNS, Sensors, draw_bad_channels
from sleep_interpreter.data.simulation.subject import Subject
from sleep_interpreter.data.simulation.waves import BLOCK, FADE, RATE, box
from sleep_interpreter.utils.core.parallel import on_one_thread

_PATCHES = sphere_points(48, -0.3)  # where the background comes from
_PATCH_DEG = 22.0
_RHYTHMS = (
    ("alpha", ("O1", 30.0)), ("alpha", (("Oz", "Pz"), 35.0)), ("alpha", ("O2", 30.0)),
    ("theta", ("Fz", 40.0)), ("theta", ("Cz", 45.0)), ("theta", ("Pz", 45.0)),
    ("beta", ("F3", 30.0)), ("beta", ("F4", 30.0)), ("beta", ("Cz", 40.0)), ("beta", ("Pz", 40.0)),
)  # fmt: skip
"""Rhythms and the patches that make them."""
_BANDS_HZ = {"theta": (5.5, 0.8), "beta": (20.0, 4.0)}
_SPINDLE_DEG, _SAWTOOTH_DEG = 45.0, 40.0
_EYE_ELECTRODES_UV = 0.35  # what the EOG electrodes have of their own, relative to the EEG's background
_EMG_HZ = (10.0, 200.0)
_AROUSAL_ALPHA_UV, _AROUSAL_BETA_UV, _AROUSAL_EMG_UV = 10.0, 6.0, 12.0
_MOVEMENT_EMG_UV = 40.0
_RAMP_S = 0.5
_KEPT = 2


class Scene:
    """Background EEG, EOG and EMG with all events of a stretch.

    `purpose` says what the scene is for; other purposes get other numbers. `stages` has "W", "N1", "N2", "N3" or "R"
    for every 30 s; `n` samples at 500 Hz, as long as the stages if None; longer than them, the last one holds. A
    `clean` scene has no bad channels, movements and arousals; the kinds of events in `fixed` are given instead of
    drawn. `names` are all channels: the EEG montage, M1, M2, EOG1, EOG2, EMG1, EMG2; `events` tables by kind, see
    `data.simulation.events.COLUMNS`, and "bad_channel" (start_s, duration_s, channel, kind).
    """

    def __init__(
        self, subject: Subject, purpose: Iterable[str | int], stages: Sequence[str], n: int | None = None,
        clean: bool = False, fixed: dict[str, pd.DataFrame] | None = None,
    ) -> None:  # fmt: skip
        self._subject, self._purpose = subject, (*purpose, "scene")
        self.head, self.settings = subject.head, subject.settings.stages
        self.stages = list(stages)
        self.n = STAGING_SAMPLES * len(self.stages) if n is None else int(n)
        self.names = (*self.head.names, *EMG)
        total_s, fixed = self.n / RATE, dict(fixed or {})
        own = subject.generator("physiology").standard_normal(len(TRAITS))
        self._person = dict(zip(TRAITS, np.exp(self.settings.subject_sd * own), strict=True))
        self.events = draw_events(self._rng, self.stages, total_s, self.settings, self._person, fixed, clean)
        if clean:
            self.events["bad_channel"] = pd.DataFrame(columns=BAD_COLUMNS)
        else:
            eeg, sensors = self.head.names[: self.head.n_eeg], subject.settings.sensors
            self.events["bad_channel"] = draw_bad_channels(self._rng("bad"), sensors, eeg, total_s)
        self._signals: list[Callable[[int, int], np.ndarray]] = []
        self._block = lru_cache(_KEPT)(self._make_block)
        self._noise_of = lru_cache(_KEPT)(self._make_noise)
        self._spectra = cache(self._make_spectra)

    def _rng(self, *purpose: str | int) -> np.random.Generator:
        return self._subject.generator(*self._purpose, *purpose)

    def add_events(self, kind: str, rows: pd.DataFrame) -> None:
        """Add events of a kind, before anything is rendered; spindles keep their slow oscillations."""
        if not len(rows):
            return
        old = self.events[kind]
        rows = pd.DataFrame(rows, columns=COLUMNS[kind])
        table = pd.concat([old, rows]) if len(old) else rows
        order = np.argsort(table["start_s"].to_numpy(float), kind="stable")
        self.events[kind] = table.iloc[order].reset_index(drop=True)
        if kind == "slow_oscillation":
            place = np.append(np.argsort(order), -1)  # -1 stays -1
            self.events["spindle"]["so"] = place[self.events["spindle"]["so"].to_numpy(int)]
        self._forget()

    def add_signal(self, make: Callable[[int, int], np.ndarray]) -> None:
        """Add a signal of the head: `make(start, stop)` returns (n_head, stop - start) µV for any samples."""
        self._signals.append(make)
        self._forget()

    def _forget(self) -> None:
        self._block.cache_clear()
        self.__dict__.pop("_rows", None)
        self.__dict__.pop("_sensors", None)

    def phase(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return group and phase of the slow oscillation at samples; see `data.simulation.waves.so_phase`."""
        return waves.so_phase(self.events["slow_oscillation"], np.asarray(samples) / RATE)

    @on_one_thread
    def render(self, start: int, stop: int) -> np.ndarray:
        """Return samples `start` to `stop` of `names`, float32 (61, stop - start) µV against the mean mastoid."""
        if not 0 <= start <= stop <= self.n:
            raise ValueError(f"samples {start} to {stop} do not lie in a scene of {self.n}")
        data = np.empty((len(self.names), stop - start), np.float32)
        for number in range(start // BLOCK, -(-stop // BLOCK)):
            first = number * BLOCK
            low, high = max(start, first), min(stop, first + BLOCK)
            data[:, low - start : high - start] = self._block(number)[:, low - first : high - first]
        return data

    def _make_block(self, number: int) -> np.ndarray:
        """Return one whole block, (61, BLOCK)."""
        n_head, first = len(self.head.names), number * BLOCK
        t = (first + np.arange(BLOCK)) / RATE
        now = self._noise_of(number)
        rows = waves.cross_fade(self._noise_of(number - 1), now) if number else now[:, :BLOCK].copy()
        rows[len(_PATCHES) + 2 :] *= self._levels(number, t)
        gains, tracks = self._tracks(t)
        eeg = self._mixing @ rows
        if len(tracks):
            eeg[:n_head] += gains.astype(np.float32) @ tracks.astype(np.float32)
        for row in self._near("slow_oscillation", t):
            self._add_wave(eeg[:n_head], row, t)
        for make in self._signals:
            eeg[:n_head] += make(first, first + BLOCK)
        eeg[:n_head] *= self.head.gain[:, None].astype(np.float32)
        self._sensors.add(eeg, number)
        eeg[:n_head] = self.head.referenced(eeg[:n_head])
        self._sensors.spoil(eeg, number)
        return eeg

    @cached_property
    def _sensors(self) -> Sensors:
        bad, movement = self.events["bad_channel"], self.events["movement"]
        return Sensors(self._rng, self._subject.settings.sensors, self.names, self.n, bad, movement)

    @cached_property
    def _mixing(self) -> np.ndarray:
        """Return what the rows of noise give to the channels, (61, rows)."""
        head = self.head
        background = np.stack([head.patch(place, _PATCH_DEG) for place in _PATCHES], axis=1)
        # Signs do not matter to noise; the mean channel gets a standard deviation of 1.
        background /= np.sqrt((background[: head.n_eeg] ** 2).sum(axis=1).mean())
        own, eyes, chin = len(_PATCHES), len(head.names) - 2, len(head.names)
        mixing = np.zeros((len(self.names), own + 2 + len(_RHYTHMS) + 2), np.float32)
        mixing[:chin, :own] = background
        mixing[eyes, own] = mixing[eyes + 1, own + 1] = _EYE_ELECTRODES_UV
        mixing[:chin, own + 2 : -2] = np.stack([head.patch(*patch) for _, patch in _RHYTHMS], axis=1)
        mixing[chin, -2] = mixing[chin + 1, -1] = 1
        return mixing

    def _make_noise(self, number: int) -> np.ndarray:
        """Return a block's noise with its overlap, (rows, BLOCK + FADE)."""
        rng = self._rng("noise", number)
        rows = np.concatenate([waves.noise(rng, part) for part in self._spectra(self._stage(number))])
        epoch = self._rng("epoch", number * BLOCK // STAGING_SAMPLES).standard_normal()
        size = self._person["background"] * np.exp(self.settings.epoch_sd * epoch)
        rows[: len(_PATCHES) + 2] *= np.float32(size)
        return rows

    def _stage(self, number: int) -> str:
        return self.stages[min(number * BLOCK // STAGING_SAMPLES, len(self.stages) - 1)]

    def _make_spectra(self, key: str) -> list[np.ndarray]:
        """Return amplitudes of a stage's noise, head and chin apart: background in µV, the rest of size 1."""
        stage, settings = self.settings.of(key), self.settings
        background = stage.background_uv * waves.fall(stage.slope, stage.knee_hz)
        own = self._subject.generator("rhythms").standard_normal()
        bands = {"alpha": (settings.alpha_hz + settings.alpha_sd_hz * own, 0.6)} | _BANDS_HZ
        head = np.stack([background] * (len(_PATCHES) + 2) + [waves.band(*bands[name]) for name, _ in _RHYTHMS])
        chin = np.stack([waves.fall(0.0, 1.0, *_EMG_HZ)] * 2)
        return [part[:, : int(np.flatnonzero(part.any(axis=0))[-1]) + 1] for part in (head, chin)]

    def _levels(self, number: int, t: np.ndarray) -> np.ndarray:
        """Return the size in µV over time of rhythms and chin, (rows, BLOCK)."""
        now = self.settings.of(self._stage(number))
        before = self.settings.of(self._stage(max(number - 1, 0)))
        passing = np.clip(np.arange(BLOCK) / FADE, 0, 1)

        def level(name: str) -> np.ndarray:
            return getattr(before, name) * (1 - passing) + getattr(now, name) * passing

        arousal, movement = self._during("arousal", t, 1.0), self._during("movement", t, 0.3)
        is_wake = (now is self.settings.W) * passing + (before is self.settings.W) * (1 - passing)
        open_eyes = is_wake * (1 - self._during("alpha", t, _RAMP_S))
        reactive = 1 - (1 - self.settings.eyes_closed.open_alpha) * open_eyes
        sizes = {
            "alpha": self._person["alpha"] * level("alpha_uv") * reactive + _AROUSAL_ALPHA_UV * arousal,
            "theta": level("theta_uv"),
            "beta": level("beta_uv") + _AROUSAL_BETA_UV * arousal,
        }
        chin = level("emg_uv") + _AROUSAL_EMG_UV * arousal + _MOVEMENT_EMG_UV * movement
        return np.stack([sizes[name] for name, _ in _RHYTHMS] + [chin] * 2).astype(np.float32)

    @cached_property
    def _rows(self) -> dict[str, tuple[np.ndarray, np.ndarray, list[dict]]]:
        """Return the events as rows with their first and last times, by kind."""
        found = {}
        for kind, table in self.events.items():
            start = table["start_s"].to_numpy(float)
            if kind == "slow_oscillation":  # it reaches the far side of the head later: 0.3 m at its speed
                end = table["end_s"].to_numpy(float) + 0.3 / table["speed_m_s"].to_numpy(float)
            else:
                end = start + table["duration_s"].to_numpy(float)
            found[kind] = start, end, table.to_dict("records")
        return found

    def _near(self, kind: str, t: np.ndarray) -> list[dict[str, Any]]:
        start, end, rows = self._rows[kind]
        return [rows[k] for k in np.flatnonzero((start <= t[-1]) & (end >= t[0]))]

    def _during(self, kind: str, t: np.ndarray, ramp: float) -> np.ndarray:
        """Return a course between 0 and 1 that is 1 during events of a kind."""
        course = np.zeros(len(t))
        for row in self._near(kind, t):
            course = np.maximum(course, box(t - row["start_s"], row["duration_s"], ramp))
        return course

    def _tracks(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return topographies (n_head, k) and courses (k, BLOCK) in µV of all that does not travel."""
        tracks: dict[Any, tuple[np.ndarray, np.ndarray]] = {}

        def add(key: Any, topography: np.ndarray, row: dict[str, Any], shape: Callable) -> None:
            _, course = tracks.setdefault(key, (topography, np.zeros(BLOCK)))
            low, high = np.searchsorted(t, [row["start_s"], row["start_s"] + row["duration_s"]])
            course[low:high] += row["amplitude_uv"] * shape(row, t[low:high])

        head = self.head
        for row in self._near("spindle", t):
            add(("spindle", row["origin"]), head.patch(row["origin"], _SPINDLE_DEG), row, waves.spindle)
        for row in self._near("sawtooth", t):
            add("sawtooth", head.patch(("FCz", "Cz"), _SAWTOOTH_DEG), row, waves.sawtooth)
        for row in self._near("eye", t):
            axis, sign = {"right": (0, 1), "left": (0, -1), "up": (1, 1), "down": (1, -1)}[row["direction"]]
            signed = row | {"amplitude_uv": sign * row["amplitude_uv"]}
            add(("eye", axis), head.eyes[:, axis], signed, waves.eye_movement)
        if not tracks:
            return np.zeros((0, 0)), np.zeros((0, BLOCK))
        gains, courses = zip(*tracks.values(), strict=True)
        return np.stack(gains, axis=1), np.stack(courses)

    def _add_wave(self, eeg: np.ndarray, row: dict[str, Any], t: np.ndarray) -> None:
        """Add one travelling slow oscillation to the head channels (n_head, BLOCK), in place."""
        gain = row["amplitude_uv"] * self.head.patch(row["origin"], self.settings.slow_waves.spread_deg)
        delay = np.rint(self.head.distance(row["origin"]) / row["speed_m_s"] * RATE).astype(int)
        low = np.searchsorted(t, row["start_s"])
        high = np.searchsorted(t, row["end_s"] + delay.max() / RATE, "right")
        first = round(t[0] * RATE)
        # The wave at the origin from the longest delay before; every channel is a piece of it.
        seconds = (first + low - delay.max() + np.arange(high - low + delay.max())) / RATE
        wave = waves.slow_oscillation(row, seconds).astype(np.float32)
        pieces = np.lib.stride_tricks.sliding_window_view(wave, high - low)
        eeg[:, low:high] += gain[:, None].astype(np.float32) * pieces[delay.max() - delay]
