"""A decoder slid over sleep without cues: windows, probabilities, and the control that shows chance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt
from tqdm import tqdm

from sleep_interpreter.data.events.slow_oscillations import so_phase
from sleep_interpreter.data.formats.scoring_readers import UNSCORED, Hypnogram
from sleep_interpreter.data.preparation.signal import SignalFile
from sleep_interpreter.model.checkpoints.channel_match import ChannelMatch, match
from sleep_interpreter.utils.core.command_line import progress
from sleep_interpreter.utils.core.config import Settings
from sleep_interpreter.utils.core.constants import STAGES, STREAM_RATE
from sleep_interpreter.utils.core.data_card import DataCard, published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.own_folder import own_folder
from sleep_interpreter.utils.core.paths import atomic_write, display_path
from sleep_interpreter.utils.core.provenance import require_json
from sleep_interpreter.utils.signal.preprocessing import decimation_of, decoding_window, stream_window

Decoder = Callable[[np.ndarray], np.ndarray]
"""From trials (n, T, C) to probabilities (n, K)."""
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

    `eeg` holds the channels of `card`, the decoder's, in its order. `truth` (onset_s, item) are planted reactivations
    of a simulated night; `average`: common average in every window; `sentence`: what was done to the channels.
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
    card: DataCard = field(default_factory=published)
    sentence: str | None = None


class _MatchedFile(SignalFile):
    """A file of which the channels of a decoder are read, by name."""

    def __init__(self, path: Path, matched: ChannelMatch) -> None:
        super().__init__(path)
        self._match = matched

    def read(self, start: int, stop: int, rows: int | Sequence[int] | None = None) -> np.ndarray:
        matched = self._match.apply(super().read(start, stop), axis=0)
        return matched if rows is None else matched[rows]


@dataclass
class Course:
    """What a decoder says over time: arrays (T,), the probabilities (T, K) of `items` as float32.

    `time` is s of the recording, where a cue would have been; `stretch` numbers the uninterrupted stretches; `free`
    times are not within the guard after a cue.
    """

    time: np.ndarray
    stage: np.ndarray
    stretch: np.ndarray
    probability: np.ndarray
    free: np.ndarray
    items: tuple[str, ...] = field(default_factory=lambda: published().item_names)

    def some(self, keep: np.ndarray) -> "Course":
        """Return the times of a mask."""
        keys = ("time", "stage", "stretch", "probability", "free")
        return replace(self, **{key: getattr(self, key)[keep] for key in keys})


def read_night(folder: str | Path, card: DataCard | None = None, interpolate: bool = False) -> Night:
    """Read a prepared sleep recording, or refuse one that holds no cleaned EEG.

    `card` is the decoder's (None: the published one): its channels are taken by name, and missing ones refused or with
    `interpolate` interpolated.
    """
    folder, card = own_folder(folder), card or published()
    if not (folder / "eeg.npy").is_file():
        raise UserError(f"{folder}: no eeg.npy; prepare with outputs.continuous = test (or all), so that it is kept")
    about = require_json(folder / "eeg.json", "prepare it again")
    kinds = {"channels": list, "average_at_window": bool, "simulated": bool}
    if lacking := [key for key, kind in kinds.items() if not isinstance(about.get(key), kind)]:
        raise UserError(f"{folder / 'eeg.json'}: {lacking[0]} is missing or of another type; prepare it again")
    stages = pd.read_csv(folder / "stages.tsv", sep="\t")
    columns = (stages.onset.to_numpy(float), stages.duration.to_numpy(float), stages.stage.to_numpy(int))
    truth: pd.DataFrame | None = None
    if (folder / "truth.tsv").is_file():
        table = pd.read_csv(folder / "truth.tsv", sep="\t")
        own = table[table.event.str.startswith("reactivation/")]
        item = own.event.str.split("/").str[1].to_numpy()
        truth = pd.DataFrame({"onset_s": own.onset_s.to_numpy(), "item": item})
    matched = match(card, about["channels"], interpolate, display_path(folder))
    cues = pd.read_csv(folder / "cues.tsv", sep="\t")
    return Night(
        subject=folder.parent.name,
        session=folder.name,
        eeg=_MatchedFile(folder / "eeg.npy", matched),
        hypnogram=Hypnogram(*columns),
        oscillations=pd.read_csv(folder / "so.tsv", sep="\t"),
        cues=cues[cues.modality != "sham"].reset_index(drop=True) if "modality" in cues else cues,
        truth=truth,
        average=about["average_at_window"],
        simulated=about["simulated"],
        card=card,
        sentence=matched.sentence,
    )


def window_times(night: Night, settings: ReactivationSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return times, stages and stretches (uninterrupted sleep of one stage) of all windows to decode: 3 x (T,)."""
    window, step = night.card.windows.sleep, settings.step_seconds
    first = max(0.0, -window.begin)
    time = np.arange(first, night.eeg.seconds - max(0.0, window.end) + 1e-9, step)
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
        return trials_at(night.eeg.read, time[some], night.average, night.card)

    with progress(total=len(time), desc=f"{night.subject} {night.session}", unit="window") as bar:
        probability = _decode(trials, stage, decoders, settings, bar, len(night.card.items))
    cues = np.sort(night.cues.onset_s.to_numpy(float))
    cues = np.concatenate([[-np.inf], cues, [np.inf]])
    following = np.searchsorted(cues, time - night.card.windows.sleep.begin, side="right")
    since, until = time - cues[following - 1], cues[following] - time
    # a window also sees the response if the next cue falls into it
    free = (since > settings.guard_seconds) & (until > night.card.windows.sleep.end)
    return Course(time, stage, stretch, probability, free, night.card.item_names)


def trials_at(
    read: Callable[[int, int], np.ndarray], time: np.ndarray, average: bool, card: DataCard | None = None
) -> np.ndarray:
    """Return the trials (n, T, C) that a decoder reads, as if there had been cues at `time` (n,), s from the start.

    `read(start, stop)` returns raw samples (C, stop - start) at 500 Hz in µV; `average`: common average reference;
    `card` is the decoder's, None the published one.
    """
    card = card or published()
    first, last = stream_window(card.windows.sleep)
    starts = np.rint((time + first / STREAM_RATE) * STREAM_RATE).astype(int)
    raw = np.stack([read(start, start + last - first) for start in starts])
    return decoding_window(raw, decimation_of(card), average, scale=card.unit == "robust")


def _decode(
    trials: Callable[[np.ndarray], np.ndarray], stage: np.ndarray, decoders: Mapping[str, Decoder],
    settings: ReactivationSettings, bar: tqdm, classes: int,
) -> np.ndarray:  # fmt: skip
    """Return probabilities (T, K) of trials, a batch of one decoder at a time."""
    probability = np.zeros((len(stage), classes), np.float32)
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
    Pieces that hold a cue, or begin within the guard after one, are left out wherever a stage has others
    (`cues_in_control`).
    """
    rng, pieces = _control_pieces(night, decoders, settings)
    length, window = round(_BLOCK_S * STREAM_RATE), night.card.windows.sleep
    inside = np.arange(max(0.0, -window.begin), _BLOCK_S - max(0.0, window.end) + 1e-9, settings.step_seconds)
    parts: list[Course] = []
    with progress(total=len(pieces) * len(inside), desc=f"{night.subject} control", unit="window") as bar:
        for code, start in pieces:
            raw = _shuffle_phases(night.eeg.read(start, start + length), rng)
            stage = np.full(len(inside), code)

            def trials(some: np.ndarray, raw: np.ndarray = raw) -> np.ndarray:
                return trials_at(lambda first, last: raw[:, first:last], inside[some], night.average, night.card)

            probability = _decode(trials, stage, decoders, settings, bar, len(night.card.items))
            time, own = start / STREAM_RATE + inside, np.full(len(inside), len(parts))
            free = np.ones(len(time), bool)
            parts.append(Course(time, stage, own, probability, free, night.card.item_names))
    return joined(parts, night.card.item_names)


def cues_in_control(night: Night, decoders: Mapping[str, Decoder], settings: ReactivationSettings) -> dict[str, int]:
    """Return the number of cues in the pieces of `slide_shuffled` by stage: 0 where it has pieces without any."""
    found: dict[str, int] = {}
    for code, start in _control_pieces(night, decoders, settings)[1]:
        found[STAGES[code]] = found.get(STAGES[code], 0) + _cues_near(night, start, settings)
    return found


def _control_pieces(
    night: Night, decoders: Mapping[str, Decoder], settings: ReactivationSettings
) -> tuple[np.random.Generator, list[tuple[int, int]]]:
    """Draw the pieces of the control; return what draws their phases, and stage and first sample of each."""
    rng = np.random.default_rng([settings.control.seed, *f"{night.subject} {night.session}".encode()])
    length, seconds = round(_BLOCK_S * STREAM_RATE), np.arange(0, _BLOCK_S, 1.0)
    most = max(1, round(settings.control.minutes * 60 / _BLOCK_S))
    pieces = []
    for code in (STAGES.index(name) for name in decoders if name in settings.stages):
        starts = list(range(0, night.eeg.shape[1] - length + 1, length))
        starts = [s for s in starts if (night.hypnogram.at(s / STREAM_RATE + seconds) == code).all()]
        starts = [s for s in starts if not _cues_near(night, s, settings)] or starts
        rng.shuffle(starts)
        pieces += [(code, start) for start in starts[:most]]
    return rng, pieces


def _cues_near(night: Night, start: int, settings: ReactivationSettings) -> int:
    """Return how many cues fall into the piece that begins at a sample, or into the guard before it."""
    cues, begin = night.cues.onset_s.to_numpy(float), start / STREAM_RATE
    return int(((cues >= begin - settings.guard_seconds) & (cues < begin + _BLOCK_S)).sum())


def joined(courses: Sequence[Course], items: tuple[str, ...]) -> Course:
    """Return several courses of the same items as one; stretches stay apart."""
    none = np.zeros(0, int)
    nothing = Course(np.zeros(0), none, none, np.zeros((0, len(items)), np.float32), np.zeros(0, bool), items)
    courses, shift, stretch = [*courses, nothing], 0, []
    for course in courses:
        stretch.append(course.stretch + shift)
        shift = stretch[-1].max(initial=shift) + 1
    together = {
        key: np.concatenate([getattr(c, key) for c in courses]) for key in ("time", "stage", "probability", "free")
    }
    return Course(stretch=np.concatenate(stretch), items=items, **together)


def _shuffle_phases(raw: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (C, n) with the same random phase added to all channels at each frequency."""
    spectrum = np.fft.rfft(raw.astype(float), axis=1)
    phase = rng.uniform(0, 2 * np.pi, (spectrum.shape[1],))
    phase[0] = 0.0
    if raw.shape[1] % 2 == 0:
        phase[-1] = 0.0
    return np.fft.irfft(spectrum * np.exp(1j * phase), raw.shape[1], axis=1)


def save(path: Path, course: Course, night: Night, events: pd.DataFrame) -> None:
    """Write a course as .npz: times, stage, phase, probabilities, and the matrix that TDLM tools take.

    Arrays: time_s (T,), stage (T,) codes, stretch (T,), free (T,), so_group (T,) index into SO_GROUPS or -1,
    so_phase_rad (T,), probability (T, K), states_time (K, T) the same transposed as temporally delayed linear
    modelling takes it, items (K,), event_time_s, event_item, event_score, simulated.
    """
    group, phase, _ = so_phase(night.oscillations, course.time)
    with atomic_write(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(
            handle, time_s=course.time, stage=course.stage, stretch=course.stretch, free=course.free,
            so_group=group, so_phase_rad=phase, probability=course.probability, items=np.array(course.items),
            states_time=np.ascontiguousarray(course.probability.T),
            event_time_s=events.onset_s.to_numpy(float), event_item=events["item"].to_numpy(str),
            event_score=events.score.to_numpy(float), simulated=np.array(night.simulated),
        )  # fmt: skip
