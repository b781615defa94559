"""From the channel names a lab uses to rows of a recording."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sleep_interpreter.realtime.Parameters.settings import ChannelSettings, DecoderChoice
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.channel_names import electrode, find_channel, hint, listed

KINDS = ("EEG", "EOG", "EMG")
Derivation = tuple[int, int | None]
"""Row of a channel, and of its reference; None: as recorded."""


@dataclass(frozen=True)
class Montage:
    """Rows of a stream that the loop reads: `derivations` of EEG, EOG and EMG (None: absent), rows of the `decoder`'s
    channels as they were asked for (None where the recording lacks some of them, which `missing` names), and the
    derivation `lock` whose slow oscillation cues wait for (None: the staging EEG). `picks` are names in the recording,
    in the order in which the source delivers them."""

    picks: tuple[str, ...]
    derivations: tuple[Derivation | None, ...]
    decoder: tuple[int, ...] | None
    missing: tuple[str, ...]
    lock: Derivation | None = None

    @property
    def staging(self) -> set[str]:
        """Names of the channels of the derivations, and of their references."""
        return {self.picks[row] for pair in self.derivations if pair for row in pair if row is not None}

    @property
    def derived(self) -> dict[str, tuple[str, str | None]]:
        """The derivations as the stager sees them, absent ones left out: {"EEG C4-M1": ("C4", "M1"), ...}."""
        found: dict[str, tuple[str, str | None]] = {}
        for kind, pair in zip(KINDS, self.derivations, strict=True):
            if pair is not None:
                name, reference = self.picks[pair[0]], None if pair[1] is None else self.picks[pair[1]]
                own = name if kind.lower() in name.lower() else f"{kind} {name}"
                label = own if reference is None else f"{own}-{reference}"
                found[label if label not in found else f"{kind} {label}"] = name, reference
        return found

    @property
    def eeg_rows(self) -> list[int]:
        """Rows that hold EEG: the staging EEG and the decoder's channels."""
        return sorted({self._staging_eeg[0], *(self.decoder or ())})

    @property
    def _staging_eeg(self) -> Derivation:
        eeg = self.derivations[0]
        assert eeg is not None  # the settings cannot do without it
        return eeg

    def locking(self, window: np.ndarray) -> np.ndarray:
        """Return the derivation (n,) of a window (channels, n) whose slow oscillation cues wait for."""
        return _derive(window, self.lock or self._staging_eeg)

    def derive(self, window: np.ndarray) -> np.ndarray:
        """Return the derivations (3, n) of a window (channels, n); an absent channel is NaN."""
        result = np.full((3, window.shape[1]), np.nan, np.float32)
        for row, pair in enumerate(self.derivations):
            if pair is not None:
                result[row] = _derive(window, pair)
        return result


def _derive(window: np.ndarray, pair: Derivation) -> np.ndarray:
    channel, reference = pair
    return window[channel] if reference is None else window[channel] - window[reference]


def bridge_gaps(window: np.ndarray, most: float) -> np.ndarray:
    """Return (channels, n) µV with straight lines over what all channels lack, if that is less than a share `most` of
    the window: a lost packet says nothing of the sleep around it."""
    lacking = np.isnan(window).all(axis=0)
    if not lacking.any() or lacking.mean() >= most:
        return window
    at, there = np.flatnonzero(lacking), np.flatnonzero(~lacking)
    bridged = window.copy()
    for row in bridged:
        row[at] = np.interp(at, there, row[there])
    return bridged


def stream_names(choice: DecoderChoice, wanted: Sequence[str]) -> dict[str, str]:
    """Return {channel of the decoders' data cards: what the stream calls it, by the settings}, in the order wanted.

    A list must name the electrodes that the decoder reads, in any order (fewer with `interpolate`), a mapping some of
    them; a `UserError` says what is lacking, or too much, or there twice.
    """
    given = choice.channels
    if given is None:
        return {name: name for name in wanted}
    cards = {electrode(name): name for name in wanted}
    if isinstance(given, dict):
        unknown = [name for name in given if electrode(name) not in cards]
        if unknown:
            raise UserError(
                f"decoder.channels: the decoder reads no channel {unknown[0]!r} ({hint(unknown[0], wanted)}); the "
                "mapping is {name in its data card: name in the stream}"
            )
        return {name: name for name in wanted} | {cards[electrode(name)]: own for name, own in given.items()}
    own = {electrode(name): name for name in given}
    lacking = [] if choice.interpolate else [name for name in wanted if electrode(name) not in own]
    extra = [name for name in given if electrode(name) not in cards]
    if lacking or extra:
        said = [f"lacks {listed(lacking)}"] if lacking else []
        said += [f"names {listed(extra)}, which it does not read"] if extra else []
        raise UserError(
            f"decoder.channels names {len(given)} channels, the decoder reads {len(wanted)}: it {', and '.join(said)}; "
            "leave it out (null), or give {name in the decoder's data card: name in the stream}"
        )
    return {name: own[electrode(name)] for name in wanted if electrode(name) in own}


def check_twice(names: Sequence[str], where: str) -> None:
    """Refuse two of the decoder's channels that are one electrode, whatever their spelling (`UserError`)."""
    seen: dict[str, str] = {}
    for name in names:
        if (first := seen.setdefault(electrode(name), name)) != name:
            raise UserError(
                f"{where}: decoder.channels names one electrode twice, as {first!r} and as {name!r}; "
                "list every channel once"
            )


def make_montage(
    channels: ChannelSettings, decoder_channels: Sequence[str], names: Sequence[str], where: str,
    lock: str | None = None, partial: bool = False,
) -> Montage:  # fmt: skip
    """Resolve the settings' channel names among the `names` of a recording, `where` in messages.

    `decoder_channels` are empty when no decoder is used; with `partial` those that the recording has do. `lock` is the
    channel whose slow oscillation cues wait for, with the reference of the staging EEG. Raise `UserError` where a
    staging channel is not in the recording (with the nearest names), or two of the decoder's channels are one
    electrode.
    """
    picks: list[str] = []

    def row(found: str) -> int:
        if found not in picks:
            picks.append(found)
        return picks.index(found)

    derivations: list[Derivation | None] = []
    problems, absent = [], []
    for kind in ("eeg", "eog", "emg"):
        rows: list[int | None] = []
        for key in (kind, f"{kind}_ref"):
            name = getattr(channels, key)
            found = None if name is None else find_channel(name, names)
            if name is not None and found is None:
                problems.append(f"channels.{key} = {name!r} ({hint(name, names)})")
                absent.append(key)
            rows.append(None if found is None else row(found))
        derivations.append(None if rows[0] is None else (rows[0], rows[1]))
    locked = None if lock is None else find_channel(lock, names)
    if lock is not None and locked is None:
        problems.append(f"cues.lock.channel = {lock!r} ({hint(lock, names)})")
    if problems:
        raise UserError(
            f"{where}: the recording lacks {'; '.join(problems)}; it has {', '.join(names)}; "
            f"{_remedy(absent, channels)}"
        )

    check_twice(decoder_channels, where)
    electrodes = [find_channel(c, names) for c in decoder_channels]
    missing = tuple(c for c, found in zip(decoder_channels, electrodes, strict=True) if found is None)
    enough = len(missing) < len(electrodes) if partial else electrodes and not missing
    decoder = tuple(row(found) for found in electrodes if found is not None) if enough else None
    eeg = derivations[0]
    pair = None if locked is None or eeg is None else (row(locked), eeg[1])
    return Montage(tuple(picks), tuple(derivations), decoder, missing, pair)


def _remedy(absent: Sequence[str], channels: ChannelSettings) -> str:
    """Return the settings that mend missing channels."""
    choose = " ".join(f"--set channels.{key}=NAME" for key in absent)
    optional = [key for key in ("eog", "emg") if key in absent]
    if "eeg" in absent or not optional:
        return f"choose with {choose}"
    nulls = [key for kind in optional for key in (kind, f"{kind}_ref") if getattr(channels, key) is not None]
    without = " ".join(f"--set channels.{key}=null" for key in nulls)
    return f"choose with {choose}, or stage without (--stager yasa): {without}"
