"""Decoder: the EEG around a cue to 15 probabilities."""

from typing import Protocol

import numpy as np

from sleep_interpreter.utils.core.constants import ITEMS, SLEEP_RATE, STREAM_RATE
from sleep_interpreter.utils.signal.preprocessing import decoding_window

BEFORE = round(0.2 * STREAM_RATE)
"""Samples of the decode window before the cue's onset."""
AFTER = round(1.8 * STREAM_RATE)
"""Samples of the decode window from the cue's onset on."""


class Network(Protocol):
    """What a decoder asks of a network."""

    def predict_proba(self, trials: np.ndarray, /) -> np.ndarray:
        """Return probabilities (B, 15) of trials (B, 200, C)."""


class Decoder:
    """A trained decoder.

    Parameters
    ----------
    channels : int
        C, the channels the settings name.
    """

    def __init__(self, network: Network, channels: int) -> None:
        self._network = network
        self._channels = channels

    def warm_up(self) -> None:
        """Trace the network, so that the first decode is as fast as any."""
        self.predict(np.random.default_rng(0).standard_normal((self._channels, BEFORE + AFTER)))

    def predict(self, eeg: np.ndarray) -> np.ndarray:
        """Return probabilities (15,).

        Parameters
        ----------
        eeg : array, shape (C, 1000)
            µV at 500 Hz, from -0.2 to +1.8 s around the cue.

        Raises
        ------
        ValueError
            Samples or probabilities that are not finite.
        """
        trial = decoding_window(eeg, round(STREAM_RATE / SLEEP_RATE))
        result = np.asarray(self._network.predict_proba(trial[None])[0], float)
        if result.shape != (len(ITEMS),) or not np.isfinite(result).all():
            raise ValueError(f"the decoder returned {result}, expected {len(ITEMS)} probabilities")
        return result
