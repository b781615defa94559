"""Trained networks from checkpoints, refused when they are not what the loop asked for."""

from pathlib import Path
from typing import Any

from sleep_interpreter.realtime.Model.decoder import AFTER, BEFORE
from sleep_interpreter.utils.core.constants import ITEMS, SLEEP_RATE, STAGES, STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.staging.stagers import WINDOW

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
    """Open a checkpoint.

    Parameters
    ----------
    path : str | Path
        This project's .npz, or a released TensorFlow checkpoint.
    kind : str
        "stager" or "decoder".
    channels : int | None
        Number of channels that a decoder must take.

    Returns
    -------
    network : object
        With `predict_proba`.

    Raises
    ------
    UserError
        Not a checkpoint, one of another kind of network, or one of other channels, samples or classes.
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
    """Let a stager or decoder predict once; a network that returns nonsense is refused by its file.

    Parameters
    ----------
    part : object
        With `warm_up`.
    path : str | Path
        Its checkpoint.

    Raises
    ------
    UserError
        The prediction is not finite.
    """
    try:
        part.warm_up()
    except ValueError as error:
        raise UserError(f"{path}: fails on a first trial: {' '.join(str(error).split())}") from error
