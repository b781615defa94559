"""Trained networks from checkpoints, refused when they are not what the loop asked for."""

from utils.errors import UserError
from utils.paths import shown


def restore(path, kind, channels=None):
    """Open a checkpoint.

    Parameters
    ----------
    path : str | Path
        This project's .npz, or a released TensorFlow checkpoint.
    kind : str
        "stager" or "decoder".
    channels : int | None
        Number of channels that the network must take.

    Returns
    -------
    network : object
        With `predict_proba`.

    Raises
    ------
    UserError
        Not a checkpoint, one of another kind of network, or trained on another number of channels.
    """
    from model import checkpoint

    network = checkpoint.restore(path)
    flag = f"--{kind}-checkpoint"
    if network.settings.kind != kind:
        raise UserError(
            f"{shown(path)}: holds {network.network}, a {network.settings.kind}; {flag} needs a {kind}"
        )
    if channels is not None and network.settings.channels != channels:
        raise UserError(
            f"{shown(path)}: {network.network} was trained on {network.settings.channels} channels, "
            f"decoder.channels names {channels}"
        )
    return network
