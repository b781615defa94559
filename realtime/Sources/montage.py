"""From the channel names a lab uses to rows of a recording."""

from dataclasses import dataclass

import numpy as np

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.channel_names import electrode, find_channel, hint


@dataclass(frozen=True)
class Montage:
    """Rows of a stream that the loop reads.

    Attributes
    ----------
    picks : tuple of str
        Names in the recording, in the order in which the source delivers them.
    derivations : tuple of 3 pairs
        EEG, EOG, EMG: (row, row of the reference or None); None for a channel that is absent.
    decoder : tuple of int | None
        Rows of the decoder's channels in its order; None where the recording lacks some of them.
    missing : tuple of str
        The decoder's channels that the recording lacks.
    lock : pair | None
        (row, row of the reference or None) whose slow oscillation cues wait for; None: the staging EEG.
    """

    picks: tuple
    derivations: tuple
    decoder: tuple | None
    missing: tuple
    lock: tuple | None = None

    @property
    def eeg_rows(self):
        """Rows that hold EEG: the staging EEG and the decoder's channels."""
        return sorted({self.derivations[0][0], *(self.decoder or ())})

    def locking(self, window):
        """Return the derivation (n,) of a window (channels, n) whose slow oscillation cues wait for."""
        channel, reference = self.lock or self.derivations[0]
        return window[channel] if reference is None else window[channel] - window[reference]

    def derive(self, window):
        """Return the derivations (3, n) of a window (channels, n); an absent channel is NaN."""
        result = np.full((3, window.shape[1]), np.nan, np.float32)
        for row, pair in enumerate(self.derivations):
            if pair is not None:
                channel, reference = pair
                result[row] = window[channel] if reference is None else window[channel] - window[reference]
        return result


def make_montage(channels, decoder_channels, names, where, lock=None):
    """Resolve the settings' channel names in a recording.

    Parameters
    ----------
    channels : ChannelSettings
    decoder_channels : sequence of str
        Empty when no decoder is used.
    names : sequence of str
        Channels of the recording.
    where : str
        The recording, for messages.
    lock : str | None
        Channel whose slow oscillation cues wait for, with the reference of the staging EEG.

    Raises
    ------
    UserError
        A staging channel is not in the recording (with the nearest names), or two of the decoder's channels
        are one electrode.
    """
    picks = []

    def row(found):
        if found not in picks:
            picks.append(found)
        return picks.index(found)

    derivations, problems, absent = [], [], []
    for kind in ("eeg", "eog", "emg"):
        wanted = [getattr(channels, kind), getattr(channels, f"{kind}_ref")]
        if wanted[0] is None:
            derivations.append(None)
            continue
        found = [None if w is None else find_channel(w, names) for w in wanted]
        for key, want, have in zip((kind, f"{kind}_ref"), wanted, found, strict=True):
            if want is not None and have is None:
                problems.append(f"channels.{key} = {want!r} ({hint(want, names)})")
                absent.append(key)
        if found[0] is not None:
            derivations.append((row(found[0]), None if found[1] is None else row(found[1])))
    if lock is not None and find_channel(lock, names) is None:
        problems.append(f"cues.lock.channel = {lock!r} ({hint(lock, names)})")
    if problems:
        raise UserError(
            f"{where}: the recording lacks {'; '.join(problems)}; it has {', '.join(names)}; "
            f"{_remedy(absent, channels)}"
        )

    _refuse_twice(decoder_channels, where)
    found = {c: find_channel(c, names) for c in decoder_channels}
    missing = tuple(c for c, have in found.items() if have is None)
    rows = None if missing or not found else tuple(row(have) for have in found.values())
    pair = None if lock is None else (row(find_channel(lock, names)), derivations[0][1])
    return Montage(tuple(picks), tuple(derivations), rows, missing, pair)


def _refuse_twice(decoder_channels, where):
    """Raise when two of the decoder's channels mean one electrode, whatever their spelling."""
    seen = {}
    for name in decoder_channels:
        first = seen.setdefault(electrode(name), name)
        if first != name:
            raise UserError(
                f"{where}: decoder.channels names one electrode twice, as {first!r} and as {name!r}; "
                "list every channel once, in the order of training"
            )


def _remedy(absent, channels):
    """Return the settings that mend missing channels."""
    choose = " ".join(f"--set channels.{key}=NAME" for key in absent)
    optional = [key for key in ("eog", "emg") if key in absent]
    if "eeg" in absent or not optional:
        return f"choose with {choose}"
    nulls = [key for kind in optional for key in (kind, f"{kind}_ref") if getattr(channels, key) is not None]
    without = " ".join(f"--set channels.{key}=null" for key in nulls)
    return f"choose with {choose}, or stage without (--stager yasa): {without}"
