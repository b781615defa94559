"""A recording as a file of µV at 500 Hz that is never in memory as a whole: read, filtered, multiplied."""

import math
from pathlib import Path

import numpy as np

from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import shown
from sleep_interpreter.utils.signal import units as amplitude
from sleep_interpreter.utils.signal.resample import Merger

PIECE_SECONDS = 30.0
_BLOCK = 30_000
_TAIL_SECONDS = 0.2
"""More than half of the resampler's filter: so much of the last sample is put behind a recording."""


class SignalFile:
    """Channels by samples in a .npy file, float32; every access opens it anew, so no page stays in memory.

    Parameters
    ----------
    path : Path
    shape : (int, int) | None
        Make a new file of this shape; None: open the one that is there.
    """

    def __init__(self, path, shape=None):
        self.path = Path(path)
        if shape is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            np.lib.format.open_memmap(self.path, mode="w+", dtype=np.float32, shape=shape)
        self.shape = tuple(np.load(self.path, mmap_mode="r").shape)

    def read(self, start, stop, rows=None):
        """Return samples [start, stop) as an array (rows, n) of its own; rows: None, a number or a list."""
        mapped = np.load(self.path, mmap_mode="r")
        if rows is None:
            return np.array(mapped[:, start:stop])
        if np.ndim(rows) == 0:
            return np.array(mapped[rows, start:stop])
        return np.stack([mapped[row, start:stop] for row in rows])

    def write(self, start, block, rows=None):
        """Write (rows, n) samples from `start` on."""
        mapped = np.load(self.path, mmap_mode="r+")
        mapped[slice(None) if rows is None else rows, start : start + block.shape[-1]] = block
        mapped.flush()

    @property
    def seconds(self):
        """Length in s."""
        return self.shape[1] / STREAM_RATE

    def blocks(self, size=_BLOCK):
        """Yield (start, stop) that cover the file."""
        for start in range(0, self.shape[1], size):
            yield start, min(start + size, self.shape[1])


def load(recording, picks, settings, path):
    """Copy channels of a recording into a working file, in µV at 500 Hz, as the real-time source does.

    Parameters
    ----------
    recording : sleep_interpreter.utils.signal.recording.Recording
    picks : list of str
    settings : sleep_interpreter.data.preparation.settings.Recordings
    path : Path

    Returns
    -------
    file : SignalFile

    Raises
    ------
    UserError
        The reader fails, or the samples are not finite.
    """
    groups = recording.groups(picks)
    seconds = min(group.length / group.rate for group in groups)
    file = SignalFile(path, (len(picks), round(seconds * STREAM_RATE)))
    merger = Merger([(group.rate, group.places) for group in groups], STREAM_RATE)
    scale, done, blocks = amplitude.TO_MICROVOLT[settings.unit], 0, []
    count = math.ceil(seconds / settings.chunk_seconds)
    bad = np.zeros(len(picks), int)
    for k in range(count):
        begin, end = k * settings.chunk_seconds, min((k + 1) * settings.chunk_seconds, seconds)
        blocks = []
        for group in groups:
            start, stop = (min(round(t * group.rate), group.length) for t in (begin, end))
            try:
                blocks.append((group.read(start, stop) * scale).astype(np.float32))
            except (OSError, ValueError, RuntimeError) as error:
                raise UserError(
                    f"{shown(recording.path)}: cannot be read at {begin:.1f} s: {error}"
                ) from error
        merged = merger.push(blocks).astype(np.float32)[:, : file.shape[1] - done]
        bad += (~np.isfinite(merged)).sum(axis=1)
        file.write(done, np.nan_to_num(merged, nan=0.0, posinf=0.0, neginf=0.0))
        done += merged.shape[1]
    if blocks and not bad.any() and done < file.shape[1]:  # the resampler's last half filter
        tail = [
            np.repeat(block[:, -1:], math.ceil(_TAIL_SECONDS * group.rate), axis=1)
            for block, group in zip(blocks, groups, strict=True)
        ]
        merged = merger.push(tail).astype(np.float32)[:, : file.shape[1] - done]
        file.write(done, merged)
        done += merged.shape[1]
    if bad.any():
        worst = int(bad.argmax())
        raise UserError(
            f"{shown(recording.path)}: {picks[worst]} holds {bad[worst]} samples that are not finite; "
            "repair the recording"
        )
    return _cut(file, done)


def _cut(file, done):
    """Cut off what the resampler did not deliver: the file ends where its samples end."""
    if done == file.shape[1]:
        return file
    shorter = SignalFile(file.path.with_suffix(".cut.npy"), (file.shape[0], done))
    for start, stop in shorter.blocks():
        shorter.write(start, file.read(start, stop))
    shorter.path.replace(file.path)
    return SignalFile(file.path)


def pieces(file, rows, minutes):
    """Return pieces of 30 s spread over a file that make up so many minutes: list of arrays (rows, n)."""
    length = min(round(PIECE_SECONDS * STREAM_RATE), file.shape[1])
    count = max(1, min(round(minutes * 60 / PIECE_SECONDS), file.shape[1] // length))
    starts = np.linspace(0, file.shape[1] - length, count).astype(int)
    return [file.read(start, start + length, rows) for start in starts]


def check_amplitude(file, rows, settings, where, what="EEG", others_fit=False):
    """Return the typical SD of 30 s in µV, or refuse what cannot be µV (`utils.signal.units.check`)."""
    found = [d for piece in pieces(file, rows, 10) for d in amplitude.deviations(piece.astype(float))]
    typical = float(np.median(found)) / amplitude.TO_MICROVOLT[settings.unit]
    return amplitude.check(
        typical, settings.unit, settings.amplitude_range, where, what, others_fit,
        "recordings.unit", "recordings.amplitude_range",
    )  # fmt: skip


def filtered(data, steps):
    """Return (channels, n) or (n,) without line noise, band-passed, float64 (MNE's zero-phase FIRs)."""
    return bandpassed(without_line(data, steps.line_noise), steps.bandpass_hz)


def without_line(data, line):
    """Return signals at 500 Hz without the mains' frequency and its harmonics."""
    import mne

    data = np.asarray(data, np.float64)
    if line.hz is None:
        return data
    hz = np.arange(line.hz, STREAM_RATE / 2 - line.width_hz, line.hz)
    return mne.filter.notch_filter(
        data, STREAM_RATE, hz, notch_widths=line.width_hz, verbose="error", n_jobs=1
    )


def bandpassed(data, corners):
    """Return signals at 500 Hz between two corners in Hz; None changes nothing."""
    import mne

    data = np.asarray(data, np.float64)
    if corners is None:
        return data
    low, high = corners
    return mne.filter.filter_data(data, STREAM_RATE, low, high, verbose="error", n_jobs=1)


def filter_file(file, rows, steps):
    """Filter rows of a working file in place, one whole channel at a time."""
    if steps.line_noise.hz is None and steps.bandpass_hz is None:
        return
    for row in rows:
        file.write(0, filtered(file.read(0, file.shape[1], row), steps).astype(np.float32), row)


def multiply(file, rows, operator, path):
    """Write operator @ file[rows] as another file, block by block; the identity copies bit for bit.

    Parameters
    ----------
    file : SignalFile
    rows : list of int
    operator : array (m, len(rows))
    path : Path

    Returns
    -------
    result : SignalFile, shape (m, n)
    """
    result = SignalFile(path, (len(operator), file.shape[1]))
    same = operator.shape[0] == operator.shape[1] and np.array_equal(operator, np.eye(len(operator)))
    for start, stop in file.blocks():
        block = file.read(start, stop, rows)
        result.write(start, block if same else (operator @ block).astype(np.float32))
    return result


def derived(file, rows, operator):
    """Return operator @ file[rows] in memory at 100 Hz, float64 (m, n / 5), for the detectors."""
    import mne

    result = []
    for weights in operator:
        used = np.flatnonzero(weights)
        signal = np.zeros(file.shape[1])
        for k in used:
            signal += weights[k] * file.read(0, file.shape[1], rows[k])
        result.append(mne.filter.resample(signal, down=5.0, npad="auto", method="polyphase", verbose="error"))
    return np.stack(result) if result else np.zeros((0, math.ceil(file.shape[1] / 5)))
