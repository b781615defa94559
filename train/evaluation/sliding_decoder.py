"""A decoder slid over sleep without cues: windows, probabilities, and the control that shows chance."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt
from tqdm import tqdm

from sleep_interpreter.data.events.slow_oscillations import so_phase
from sleep_interpreter.data.formats.scoring_readers import UNSCORED, Hypnogram
from sleep_interpreter.data.preparation.signal import SignalFile
from sleep_interpreter.utils.core.config import Settings
from sleep_interpreter.utils.core.constants import ITEMS, SLEEP_RATE, STAGES, STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import atomic_write
from sleep_interpreter.utils.signal.preprocessing import decoding_window

Decoder = Callable[[np.ndarray], np.ndarray]
"""From trials (n, 200, C) to probabilities (n, 15)."""
BEFORE, AFTER = 0.2, 1.8
"""Seconds of a window before and after the time that it stands for: as around a cue."""
_RATIO = round(STREAM_RATE / SLEEP_RATE)
_WINDOW = round((BEFORE + AFTER) * STREAM_RATE)
_BLOCK_S = 30.0
"""Length of the pieces whose phases are shuffled."""


class ControlSettings(Settings):
    """What shows how often nothing looks like a reactivation."""

    kind: Literal["shuffled", "prelearning"] = "shuffled"
    minutes: PositiveFloat = 60.0
    confidence: float = Field(0.95, gt=0.5, lt=1)
    seed: int = Field(1642, ge=0)


class ReactivationSettings(Settings):
    """How reactivations are looked for. params/reactivation.yaml holds every default and its reason."""

    step_seconds: float = Field(0.05, ge=0.01, le=2)
    batch_size: PositiveInt = 256
    stages: tuple[Literal["N2", "N3", "R"], ...] = ("N2", "N3", "R")
    guard_seconds: float = Field(4.0, ge=0)
    control: ControlSettings = ControlSettings()
    false_alarms_per_min: PositiveFloat = 0.2
    refractory_seconds: PositiveFloat = 1.0
    tolerance_seconds: PositiveFloat = 0.5
    permutations: int = Field(10_000, ge=100)


@dataclass
class Night:
    """A prepared sleep recording (`Prepared/<subject>/<session>/`): cleaned EEG of 500 Hz and what is known of it.

    `truth` (onset_s, item) are planted reactivations of a simulated night; `average`: common average in every window.
    """

    subject: str
    session: str
    eeg: SignalFile
    hypnogram: Hypnogram
    oscillations: pd.DataFrame
    cues: pd.DataFrame
    truth: pd.DataFrame | None
    average: bool
    simulated: bool


@dataclass
class Course:
    """What a decoder says over time: arrays (T,), the probabilities (T, 15) as float32.

    `time` is s of the recording, where a cue would have been; `stretch` numbers the uninterrupted stretches; `free`
    times are not within the guard after a cue.
    """

    time: np.ndarray
    stage: np.ndarray
    stretch: np.ndarray
    probability: np.ndarray
    free: np.ndarray

    def some(self, keep: np.ndarray) -> "Course":
        """Return the times of a mask."""
        parts = (self.time, self.stage, self.stretch, self.probability, self.free)
        return Course(*(part[keep] for part in parts))


def read_night(folder: str | Path) -> Night:
    """Read a prepared sleep recording, or refuse one that holds no cleaned EEG."""
    folder = Path(folder)
    if not (folder / "eeg.npy").is_file():
        raise UserError(f"{folder}: no eeg.npy; prepare with outputs.continuous = test (or all), so that it is kept")
    about = json.loads((folder / "eeg.json").read_text(encoding="utf-8"))
    stages = pd.read_csv(folder / "stages.tsv", sep="\t")
    columns = (stages.onset.to_numpy(float), stages.duration.to_numpy(float), stages.stage.to_numpy(int))
    truth = folder / "truth.tsv"
    return Night(
        subject=folder.parent.name,
        session=folder.name,
        eeg=SignalFile(folder / "eeg.npy"),
        hypnogram=Hypnogram(*columns),
        oscillations=pd.read_csv(folder / "so.tsv", sep="\t"),
        cues=pd.read_csv(folder / "cues.tsv", sep="\t"),
        truth=_reactivations(truth) if truth.is_file() else None,
        average=about["average_at_window"],
        simulated=about["simulated"],
    )


def _reactivations(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, sep="\t")
    own = table[table.event.str.startswith("reactivation/")]
    return pd.DataFrame({"onset_s": own.onset_s.to_numpy(), "item": own.event.str.split("/").str[1].to_numpy()})


def window_times(night: Night, settings: ReactivationSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return times, stages and stretches (uninterrupted sleep of one stage) of all windows to decode: 3 x (T,)."""
    step = settings.step_seconds
    time = np.arange(BEFORE, night.eeg.seconds - AFTER + 1e-9, step)
    stage = night.hypnogram.at(time)
    keep = np.isin(stage, [STAGES.index(name) for name in settings.stages])
    change = np.diff(np.where(keep, stage, UNSCORED), prepend=UNSCORED - 1) != 0
    stretch = np.cumsum(change)
    return time[keep], stage[keep], stretch[keep]


def slide(night: Night, decoders: Mapping[str, Decoder], settings: ReactivationSettings) -> Course:
    """Decode a night window by window; stages without a decoder (N2, N3, R) are left out."""
    time, stage, stretch = window_times(night, settings)
    known = np.isin(stage, [STAGES.index(name) for name in decoders])
    time, stage, stretch = time[known], stage[known], stretch[known]

    def trials(some: np.ndarray) -> np.ndarray:
        return trials_at(night.eeg.read, time[some], night.average)

    with tqdm(total=len(time), desc=f"{night.subject} {night.session}", unit="window") as bar:
        probability = _decode(trials, stage, decoders, settings, bar)
    cues = np.sort(night.cues.onset_s.to_numpy(float))
    cues = np.concatenate([[-np.inf], cues, [np.inf]])
    following = np.searchsorted(cues, time + BEFORE, side="right")
    since, until = time - cues[following - 1], cues[following] - time
    # a window also sees the response if the next cue falls into it
    free = (since > settings.guard_seconds) & (until > AFTER)
    return Course(time, stage, stretch, probability, free)


def trials_at(read: Callable[[int, int], np.ndarray], time: np.ndarray, average: bool) -> np.ndarray:
    """Return the trials (n, 200, C) that a decoder reads, as if there had been cues at `time` (n,), s from the start.

    `read(start, stop)` returns raw samples (C, stop - start) at 500 Hz in µV; `average`: common average reference.
    """
    starts = np.rint((time - BEFORE) * STREAM_RATE).astype(int)
    return decoding_window(np.stack([read(start, start + _WINDOW) for start in starts]), _RATIO, average)


def _decode(
    trials: Callable[[np.ndarray], np.ndarray], stage: np.ndarray, decoders: Mapping[str, Decoder],
    settings: ReactivationSettings, bar: tqdm,
) -> np.ndarray:  # fmt: skip
    """Return probabilities (T, 15) of trials, a batch of one decoder at a time."""
    probability = np.zeros((len(stage), len(ITEMS)), np.float32)
    for decoder in dict.fromkeys(decoders.values()):
        codes = [STAGES.index(name) for name, own in decoders.items() if own is decoder]
        places = np.flatnonzero(np.isin(stage, codes))
        for start in range(0, len(places), settings.batch_size):
            some = places[start : start + settings.batch_size]
            probability[some] = decoder(trials(some))
            bar.update(len(some))
    return probability


def slide_shuffled(night: Night, decoders: Mapping[str, Decoder], settings: ReactivationSettings) -> Course:
    """Decode the same sleep with shuffled phases: a control in which nothing can be reactivated at a moment.

    Pieces of 30 s of one stage keep every channel's spectrum and every pair's cross-spectrum (random phases, the same
    for all channels: Prichard and Theiler, 1994, Phys Rev Lett 73:951), but nothing that happens at a time is left:
    what a memory adds is spread over the whole piece. Slow oscillations and spindles lose their shape too, so real
    EEG may look a little more eventful than this control; a night before learning does not. Times are the pieces'.
    """
    rng = np.random.default_rng([settings.control.seed, *f"{night.subject} {night.session}".encode()])
    length = round(_BLOCK_S * STREAM_RATE)
    inside = np.arange(BEFORE, _BLOCK_S - AFTER + 1e-9, settings.step_seconds)
    most = max(1, round(settings.control.minutes * 60 / _BLOCK_S))
    pieces = []
    for name in decoders:
        starts = _pieces(night, STAGES.index(name), length, settings)
        rng.shuffle(starts)
        pieces += [(STAGES.index(name), start) for start in starts[:most]]
    parts: list[Course] = []
    with tqdm(total=len(pieces) * len(inside), desc=f"{night.subject} control", unit="window") as bar:
        for code, start in pieces:
            raw = _shuffle_phases(night.eeg.read(start, start + length), rng)
            stage = np.full(len(inside), code)

            def trials(some: np.ndarray, raw: np.ndarray = raw) -> np.ndarray:
                return trials_at(lambda first, last: raw[:, first:last], inside[some], night.average)

            probability = _decode(trials, stage, decoders, settings, bar)
            time = start / STREAM_RATE + inside
            parts.append(Course(time, stage, np.full(len(time), len(parts)), probability, np.ones(len(time), bool)))
    return joined(parts)


def joined(courses: Sequence[Course]) -> Course:
    """Return several courses as one; stretches stay apart."""
    if not courses:
        none = np.zeros(0, int)
        return Course(np.zeros(0), none, none, np.zeros((0, len(ITEMS)), np.float32), np.zeros(0, bool))
    shift, stretch = 0, []
    for course in courses:
        stretch.append(course.stretch + shift)
        shift = stretch[-1].max(initial=shift) + 1
    together = {
        key: np.concatenate([getattr(c, key) for c in courses]) for key in ("time", "stage", "probability", "free")
    }
    return Course(stretch=np.concatenate(stretch), **together)


def _pieces(night: Night, code: int, length: int, settings: ReactivationSettings) -> list[int]:
    """Return the first samples of 30 s pieces that are of one stage and free of cues."""
    _, stage, _ = window_times(night, settings)
    if not (stage == code).any():
        return []
    starts = np.arange(0, night.eeg.shape[1] - length + 1, length)
    inside = [(night.hypnogram.at(s / STREAM_RATE + np.arange(0, _BLOCK_S, 1.0)) == code).all() for s in starts]
    return starts[np.array(inside, bool)].tolist()


def _shuffle_phases(raw: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (C, n) with the same random phase added to all channels at each frequency."""
    spectrum = np.fft.rfft(raw.astype(float), axis=1)
    phase = rng.uniform(0, 2 * np.pi, (spectrum.shape[1],))
    phase[0] = 0.0
    if raw.shape[1] % 2 == 0:
        phase[-1] = 0.0
    return np.fft.irfft(spectrum * np.exp(1j * phase), raw.shape[1], axis=1)


def save(path: Path, course: Course, night: Night, events: pd.DataFrame, items: Sequence[str]) -> None:
    """Write a course as .npz: times, stage, phase, probabilities, and the matrix that TDLM tools take.

    Arrays: time_s (T,), stage (T,) codes, stretch (T,), free (T,), so_group (T,) index into SO_GROUPS or -1,
    so_phase_rad (T,), probability (T, 15), states_time (15, T) the same transposed as temporally delayed linear
    modelling takes it, items (15,), event_time_s, event_item, event_score, simulated.
    """
    group, phase, _ = so_phase(night.oscillations, course.time)
    with atomic_write(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(
            handle, time_s=course.time, stage=course.stage, stretch=course.stretch, free=course.free,
            so_group=group, so_phase_rad=phase, probability=course.probability, items=np.array(items),
            states_time=np.ascontiguousarray(course.probability.T),
            event_time_s=events.onset_s.to_numpy(float), event_item=events["item"].to_numpy(str),
            event_score=events.score.to_numpy(float), simulated=np.array(night.simulated),
        )  # fmt: skip
