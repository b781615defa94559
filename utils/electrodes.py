"""Which of a recording's channels are places on the head."""

from utils.channels import electrode

_EARS = {"a1", "a2", "m1", "m2"}


def on_head(names):
    """Return {channel: name in the 10-05 system} of the channels named after a place, ears left out.

    Parameters
    ----------
    names : sequence of str
        As a recording spells them: "EEG Fz", "fz-Ref".
    """
    from data.simulation_head import standard_montage

    places = {name.casefold(): name for name in standard_montage().ch_names}
    found = {name: places[electrode(name)] for name in names if electrode(name) in places}
    return {name: place for name, place in found.items() if place.casefold() not in _EARS}


def head_info(names):
    """Return an `mne.Info` with the places of channels that `on_head` knows, for a map of the head."""
    import mne

    from data.simulation_head import standard_montage

    info = mne.create_info([on_head([name])[name] for name in names], 100.0, "eeg")
    info.set_montage(standard_montage())
    return info
