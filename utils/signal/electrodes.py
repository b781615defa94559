"""Places of electrodes on the head."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sleep_interpreter.utils.signal.channel_names import electrode

if TYPE_CHECKING:
    import mne

_EARS = {"a1", "a2", "m1", "m2"}


def standard_montage() -> "mne.channels.DigMontage":
    """Return MNE's standard 10-05 montage, under the name that the installed MNE knows it by."""
    import mne  # lazy: start-up

    renamed = "colin27_1005"  # from MNE 1.13 on; "standard_1005" before
    known = mne.channels.get_builtin_montages()
    return mne.channels.make_standard_montage(renamed if renamed in known else "standard_1005")


def on_head(names: Sequence[str]) -> dict[str, str]:
    """Return {channel: name in the 10-05 system} of the channels named after a place ("EEG Fz", "fz-Ref"), without
    ears."""
    places = {name.casefold(): name for name in standard_montage().ch_names}
    found = {name: places[electrode(name)] for name in names if electrode(name) in places}
    return {name: place for name, place in found.items() if place.casefold() not in _EARS}


def head_info(names: Sequence[str]) -> "mne.Info":
    """Return an `mne.Info` with the places of channels that `on_head` knows, for a map of the head."""
    import mne  # lazy: start-up

    places = on_head(names)
    info = mne.create_info([places[name] for name in names], 100.0, "eeg")
    info.set_montage(standard_montage())
    return info
