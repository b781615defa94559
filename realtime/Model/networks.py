"""Trained networks from checkpoints, refused when they are not what the loop asked for; the decoder of a response."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sleep_interpreter.utils.core.constants import ITEMS, SLEEP_RATE, STAGES, STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.preprocessing import decoding_window
from sleep_interpreter.utils.staging.stagers import WINDOW

BEFORE = round(0.2 * STREAM_RATE)
"""Samples of the decode window before the cue's onset."""
AFTER = round(1.8 * STREAM_RATE)
"""Samples of the decode window from the cue's onset on."""
_ASKED: dict[str, dict[str, tuple[int, str]]] = {
    "decoder": {
        "sleep_samples": (round((BEFORE + AFTER) / STREAM_RATE * SLEEP_RATE), "2 s at 100 Hz"),
        "classes": (len(ITEMS), "the items"),
    },
    "stager": {
        "channels": (3, "EEG, EOG and EMG"),
        "samples": (WINDOW, "30 s at 500 Hz"),
        "classes": (len(STAGES), ", ".join(STAGES)),
    },
}
"""What a session gives a network and wants of it: {kind: {field of its settings: (value, why)}}."""


def restore(path: str | Path, kind: str, channels: int | None = None) -> Any:
    """Open a "stager" or "decoder", this project's .npz or a released TensorFlow checkpoint: with `predict_proba`.

    `channels` is how many a decoder must take. A `UserError` says that it is no checkpoint, or one of another kind of
    network, or of other channels, samples or classes.
    """
    from sleep_interpreter.model.checkpoints import checkpoint  # lazy: start-up

    network = checkpoint.restore(path)
    flag = f"--{kind}-checkpoint"
    own = "stager" if network.settings.task == "staging" else "decoder"
    if own != kind:
        raise UserError(f"{path}: holds {network.network}, a {own}; {flag} needs a {kind}")
    asked = dict(_ASKED[kind])
    if channels is not None:
        asked["channels"] = (channels, "as many as decoder.channels names")
    for field, (wanted, why) in asked.items():
        found = getattr(network.settings, field)
        if found != wanted:
            raise UserError(
                f"{path}: {network.network} has model.{field} = {found}, expected {wanted} ({why}); "
                f"choose another {flag}"
            )
    return network


def warm_up(part: Any, path: str | Path) -> None:
    """Let a stager or decoder predict once (`part.warm_up`); a network that returns nonsense is refused by its file,
    `path` (`UserError`)."""
    try:
        part.warm_up()
    except ValueError as error:
        raise UserError(f"{path}: fails on a first trial: {' '.join(str(error).split())}") from error


class Network(Protocol):
    """What a decoder asks of a network."""

    def predict_proba(self, trials: np.ndarray, /) -> np.ndarray:
        """Return probabilities (B, 15) of trials (B, 200, C)."""


class Decoder:
    """A trained decoder of as many channels as the settings name."""

    def __init__(self, network: Network, channels: int) -> None:
        self._network, self._channels = network, channels

    def warm_up(self) -> None:
        """Trace the network, so that the first decode is as fast as any."""
        self.predict(np.random.default_rng(0).standard_normal((self._channels, BEFORE + AFTER)))

    def predict(self, eeg: np.ndarray) -> np.ndarray:
        """Return probabilities (15,) of eeg (channels, 1000) in µV at 500 Hz, from -0.2 to +1.8 s around the cue;
        raise `ValueError` where samples or probabilities are not finite."""
        trial = decoding_window(eeg, round(STREAM_RATE / SLEEP_RATE))
        result = np.asarray(self._network.predict_proba(trial[None])[0], float)
        if result.shape != (len(ITEMS),) or not np.isfinite(result).all():
            raise ValueError(f"the decoder returned {result}, expected {len(ITEMS)} probabilities")
        return result
