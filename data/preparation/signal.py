"""A recording as a file of µV at 500 Hz that is never in memory as a whole: read, filtered, multiplied."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import mne
import numpy as np

from sleep_interpreter.data.preparation.settings import LineNoise, Recordings, Steps
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal import units
from sleep_interpreter.utils.signal.recording import Recording
from sleep_interpreter.utils.signal.resample import Merger

PIECE_SECONDS = 30.0
_BLOCK = 30_000
_FILTERED_AT_ONCE = 5_000_000  # samples of all channels that are filtered together: one channel of a night
_TAIL_SECONDS = 0.2  # more than half of the resampler's filter: so much of the last sample is put behind a recording


class SignalFile:
    """Channels by samples in a .npy file, float32; every access opens it anew, so no page stays in memory.

    With a shape (channels, samples) a new file is made; without it the one that is there is opened.
    """

    def __init__(self, path: str | Path, shape: tuple[int, int] | None = None) -> None:
        self.path = Path(path)
        if shape is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            np.lib.format.open_memmap(self.path, mode="w+", dtype=np.float32, shape=shape)
        self.shape: tuple[int, int] = tuple(np.load(self.path, mmap_mode="r").shape)
        self.gaps: Sequence[tuple[int, int]] = ()  # (first sample, first one behind) where nothing was recorded

    def read(self, start: int, stop: int, rows: int | Sequence[int] | None = None) -> np.ndarray:
        """Return samples [start, stop) as an array (rows, n) of its own; rows: None, a number or a list."""
        mapped = np.load(self.path, mmap_mode="r")
        return np.array(mapped[slice(None) if rows is None else rows, start:stop])

    def write(self, start: int, block: np.ndarray, rows: int | Sequence[int] | None = None) -> None:
        """Write (rows, n) samples from `start` on."""
        mapped = np.load(self.path, mmap_mode="r+")
        mapped[slice(None) if rows is None else rows, start : start + block.shape[-1]] = block
        mapped.flush()

    @property
    def seconds(self) -> float:
        """Length in s."""
        return self.shape[1] / STREAM_RATE

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """(first sample, first one behind) of what lies between the gaps."""
        begins, ends = [0, *(stop for _, stop in self.gaps)], [*(start for start, _ in self.gaps), self.shape[1]]
        return [(begin, end) for begin, end in zip(begins, ends, strict=True) if begin < end]

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield (start, stop) that cover the file."""
        for start in range(0, self.shape[1], _BLOCK):
            yield start, min(start + _BLOCK, self.shape[1])


def load(recording: Recording, picks: Sequence[str], settings: Recordings, path: Path) -> SignalFile:
    """Copy channels of a recording into a working file, in µV at 500 Hz, as the real-time source does.

    Refuses samples that are not finite, or that the reader fails at.
    """
    groups = recording.groups(picks)
    seconds = min(group.length / group.rate for group in groups)
    file = SignalFile(path, (len(picks), round(seconds * STREAM_RATE)))
    merger = Merger([(group.rate, group.places) for group in groups], STREAM_RATE)
    scale, done = units.TO_MICROVOLT[settings.unit], 0
    blocks: list[np.ndarray] = []
    bad = np.zeros(len(picks), int)
    for k in range(math.ceil(seconds / settings.chunk_seconds)):
        begin, end = k * settings.chunk_seconds, min((k + 1) * settings.chunk_seconds, seconds)
        blocks = []
        for group in groups:
            start, stop = (min(round(t * group.rate), group.length) for t in (begin, end))
            try:
                blocks.append((group.read(start, stop, filled=True) * scale).astype(np.float32))
            except (OSError, ValueError, RuntimeError) as error:
                raise UserError(f"{recording.path}: cannot be read at {begin:.1f} s: {error}") from error
        merged = merger.push(blocks).astype(np.float32)[:, : file.shape[1] - done]
        bad += (~np.isfinite(merged)).sum(axis=1)
        file.write(done, np.nan_to_num(merged, nan=0.0, posinf=0.0, neginf=0.0))
        done += merged.shape[1]
    if bad.any():
        found = f"{picks[int(bad.argmax())]} holds {bad.max()} samples that are not finite"
        raise UserError(f"{recording.path}: {found}; repair the recording")
    if blocks and done < file.shape[1]:  # the resampler's last half filter
        tail = [
            np.repeat(block[:, -1:], math.ceil(_TAIL_SECONDS * group.rate), axis=1)
            for block, group in zip(blocks, groups, strict=True)
        ]
        merged = merger.push(tail).astype(np.float32)[:, : file.shape[1] - done]
        file.write(done, merged)
        done += merged.shape[1]
    if done == file.shape[1]:
        return file
    # what the resampler did not deliver is cut off: the file ends where its samples end
    shorter = SignalFile(file.path.with_suffix(".cut.npy"), (file.shape[0], done))
    for start, stop in shorter.blocks():
        shorter.write(start, file.read(start, stop))
    shorter.path.replace(file.path)
    return SignalFile(file.path)


def pieces(file: SignalFile, rows: Sequence[int] | None, minutes: float) -> list[np.ndarray]:
    """Return pieces of 30 s spread over a file, none across a gap, that make up so many minutes: arrays (rows, n)."""
    stretches = file.stretches
    length = min(round(PIECE_SECONDS * STREAM_RATE), max(stop - start for start, stop in stretches))
    free = [(start, stop - length) for start, stop in stretches if stop - start >= length]
    held = sum(stop - start + length for start, stop in free)
    count = max(1, min(round(minutes * 60 / PIECE_SECONDS), held // length))
    ends = np.cumsum([last - first for first, last in free])
    starts = []
    for at in np.linspace(0, ends[-1], count).astype(int):
        k = int(np.searchsorted(ends, at))
        starts.append(free[k][1] - int(ends[k]) + at)
    return [file.read(start, start + length, rows) for start in starts]


def check_amplitude(
    file: SignalFile, rows: Sequence[int], settings: Recordings, where: str, what: str = "EEG",
    others_fit: bool = False,
) -> float:  # fmt: skip
    """Return the typical SD of 30 s in µV, or refuse what cannot be µV (`utils.signal.units.check`)."""
    found = [d for piece in pieces(file, rows, 10) for d in units.deviations(piece.astype(float))]
    typical = float(np.median(found)) / units.TO_MICROVOLT[settings.unit]
    return units.check(
        typical, settings.unit, settings.amplitude_range, where, what, others_fit,
        "recordings.unit", "recordings.amplitude_range",
    )  # fmt: skip


def without_line(data: np.ndarray, line: LineNoise) -> np.ndarray:
    """Return signals at 500 Hz without the mains' frequency and its harmonics, float64."""
    data = np.asarray(data, np.float64)
    if line.hz is None:
        return data
    hz = np.arange(line.hz, STREAM_RATE / 2 - line.width_hz, line.hz)
    return mne.filter.notch_filter(data, STREAM_RATE, hz, notch_widths=line.width_hz, verbose="error", n_jobs=1)


def filter_file(file: SignalFile, rows: Sequence[int], steps: Steps) -> None:
    """Filter rows of a working file in place, whole channels (MNE's zero-phase FIRs, designed once for several).

    What lies between gaps is filtered by itself, so that nothing of one side gets into the other; a gap holds zeros.
    """
    if steps.line_noise.hz is None and steps.bandpass_hz is None:
        return
    count = max(1, _FILTERED_AT_ONCE // file.shape[1])
    for first in range(0, len(rows), count):
        several = rows[first : first + count]
        for start, stop in file.stretches:
            data = without_line(file.read(start, stop, several), steps.line_noise)
            if steps.bandpass_hz is not None:
                data = mne.filter.filter_data(data, STREAM_RATE, *steps.bandpass_hz, verbose="error", n_jobs=1)
            file.write(start, data.astype(np.float32), several)
        for start, stop in file.gaps:
            file.write(start, np.zeros((len(several), stop - start), np.float32), several)


def multiply(file: SignalFile, rows: Sequence[int], operator: np.ndarray, path: Path) -> SignalFile:
    """Write operator (m, rows) @ file[rows] as another file, in blocks; the identity copies bit for bit."""
    result = SignalFile(path, (len(operator), file.shape[1]))
    result.gaps = file.gaps
    same = np.array_equal(operator, np.eye(len(operator)))
    for start, stop in file.blocks():
        block = file.read(start, stop, rows)
        result.write(start, block if same else (operator @ block).astype(np.float32))
    return result


def derived(file: SignalFile, rows: Sequence[int], operator: np.ndarray) -> np.ndarray:
    """Return operator @ file[rows] in memory at 100 Hz, float64 (m, n / 5), for the detectors."""
    result = []
    for weights in operator:
        signal = np.zeros(file.shape[1])
        for k in np.flatnonzero(weights).tolist():
            signal += weights[k] * file.read(0, file.shape[1], rows[k])
        result.append(mne.filter.resample(signal, down=5.0, npad="auto", method="polyphase", verbose="error"))
    return np.stack(result) if result else np.zeros((0, math.ceil(file.shape[1] / 5)))
