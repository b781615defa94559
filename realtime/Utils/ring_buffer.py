"""The last seconds of a stream, addressed by sample index."""

import numpy as np


class RingBuffer:
    """Keep the newest `length` samples: `origin` is the index of the first one that will be written, `end` that after
    the newest."""

    def __init__(self, channels: int, length: int, origin: int = 0) -> None:
        self._data = np.zeros((channels, length), np.float32)
        self._origin = self.end = origin

    @property
    def start(self) -> int:
        """Index of the oldest sample that is still held."""
        return max(self._origin, self.end - self._data.shape[1])

    def write(self, block: np.ndarray) -> None:
        """Append (channels, n) samples."""
        length = self._data.shape[1]
        kept = block[:, -length:]
        first = self.end + block.shape[1] - kept.shape[1]
        self._data[:, np.arange(first, first + kept.shape[1]) % length] = kept
        self.end += block.shape[1]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return a copy of samples [start, stop), shape (channels, stop - start); `IndexError` where some of them are
        overwritten or have not arrived yet."""
        if start < 0 or stop < start:
            raise IndexError(f"samples {start} to {stop}: not a range of the stream")
        if stop > self.end:
            raise IndexError(f"samples {start} to {stop} asked for, but the stream is at {self.end}")
        if start < self.start:
            raise IndexError(f"samples {start} to {stop} asked for, but the oldest one held is {self.start}")
        return self._data[:, np.arange(start, stop) % self._data.shape[1]]
