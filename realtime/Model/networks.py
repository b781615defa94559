"""Trained networks from checkpoints, refused when they are not what the loop asked for; the decoder of a response."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.core.data_card import DataCard
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.preprocessing import decimation_of, decoding_window, stream_window
from sleep_interpreter.utils.staging.stagers import WINDOW


@dataclass(frozen=True)
class ResponseWindow:
    """The decode window around a cue's onset, in samples of the stream: `before` it (negative: begins after it) and
    `after` it. The next cue may end it from `earliest` after it on (None: the window is always whole)."""

    before: int
    after: int
    earliest: int | None = None

    @classmethod
    def of(cls, card: DataCard) -> Self:
        """Return the window of a card's sleep trials."""
        first, last = stream_window(card.windows.sleep)
        _, earliest = stream_window(card.cut_to_shortest().windows.sleep)
        return cls(-first, last, earliest if card.varying_lengths else None)

    @property
    def samples(self) -> int:
        """Its length."""
        return self.before + self.after


def _asked(network: Any) -> dict[str, tuple[int, str]]:
    """Return what a session gives a network and wants of it: {field of its settings: (value, why)}."""
    if network.settings.task == "staging":
        return {
            "channels": (3, "EEG, EOG and EMG"),
            "samples": (WINDOW, "30 s at 500 Hz"),
            "classes": (len(STAGES), ", ".join(STAGES)),
        }
    card: DataCard = network.card
    return {
        "channels": (len(card.channels), "the channels of its data card"),
        "sleep_samples": (card.sleep_samples, f"{card.windows.sleep.seconds:g} s at {card.rate_hz:g} Hz"),
        "classes": (len(card.items), "the items"),
    }


def restore(path: str | Path, kind: str) -> Any:
    """Open a "stager" or "decoder", this project's .npz or a released TensorFlow checkpoint: with `predict_proba`.

    A `UserError` says that it is no checkpoint, or one of another kind of network, or of other channels, samples or
    classes than its data card (a decoder's; the published one where it holds none).
    """
    from sleep_interpreter.model.checkpoints import checkpoint  # lazy: start-up

    network = checkpoint.restore(path)
    flag = f"--{kind}-checkpoint"
    own = "stager" if network.settings.task == "staging" else "decoder"
    if own != kind:
        raise UserError(f"{path}: holds {network.network}, a {own}; {flag} needs a {kind}")
    for field, (wanted, why) in _asked(network).items():
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

    @property
    def card(self) -> DataCard:
        """What it was trained on."""

    def predict_proba(self, trials: np.ndarray, /) -> np.ndarray:
        """Return probabilities (B, K) of trials (B, T, C)."""


class Decoder:
    """A trained decoder, fed from the channels `names` of a stream and asked for the probabilities of `items`.

    Both go by the names in the network's data card, in any order: its channels are picked, and where the stream lacks
    some, `interpolate` makes them from the others (`model.checkpoints.channel_match`).
    """

    def __init__(self, network: Network, names: Sequence[str], items: Sequence[str], interpolate: bool = False) -> None:
        self._network, self._card, self._channels = network, network.card, len(names)
        self._window, self._decimation = ResponseWindow.of(self._card), decimation_of(self._card)
        self._items = [self._card.item_names.index(item) for item in items]
        from sleep_interpreter.model.checkpoints import channel_match  # lazy: start-up

        self._match = channel_match.match(self._card, names, interpolate, "decoder")

    @property
    def interpolated(self) -> list[str]:
        """Channels that are made from the others."""
        return [self._match.channels[place] for place in self._match.interpolated]

    def warm_up(self) -> None:
        """Trace the network, so that the first decode is as fast as any."""
        self.predict(np.random.default_rng(0).standard_normal((self._channels, self._window.samples)))

    def predict(self, eeg: np.ndarray) -> np.ndarray:
        """Return probabilities (K,) of eeg (channels, n) in µV at 500 Hz, the card's window around the cue (published:
        1000 samples from -0.2 to +1.8 s), which may end early where the card's trials are of unequal length; raise
        `ValueError` where samples or probabilities are not finite."""
        card = self._card
        picked: np.ndarray = self._match.apply(np.asarray(eeg, float), 0)
        ended = card.varying_lengths and picked.shape[1] < self._window.samples
        if ended:
            picked = picked[:, : int(int(picked.shape[1] / self._decimation) * self._decimation)]
        trial = decoding_window(picked, self._decimation, takes_average(card), card.unit == "robust")
        if ended:  # as in the files: NaN behind the end
            behind = np.full((card.sleep_samples - len(trial), trial.shape[1]), np.nan, trial.dtype)
            trial = np.concatenate([trial, behind])
        result = np.asarray(self._network.predict_proba(trial[None])[0], float)
        if result.shape != (len(card.items),) or not np.isfinite(result).all():
            raise ValueError(f"the decoder returned {result}, expected {len(card.items)} probabilities")
        return result[self._items]


def takes_average(card: DataCard) -> bool:
    """Tell whether a decode window gets the common average reference: where the card says so, as published."""
    return card.reference is not None and card.reference.strip().casefold() == "average"
