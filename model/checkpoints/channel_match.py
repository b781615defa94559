"""Data for a network whose card differs: channels and items by name, reordered, interpolated or refused.

    matched = match(network.card, names)     # channels alone, for a stream
    trials = matched.apply(trials)           # (..., channels of the data) -> (..., channels of the network)

Nothing is matched by its place: a set of the same channels in another order is reordered, channels that are missing
are refused, or interpolated by MNE's spherical splines where that is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from sleep_interpreter.utils.core.data_card import DataCard, items_apart
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.channel_names import electrode, listed
from sleep_interpreter.utils.signal.electrodes import on_head, standard_montage
from sleep_interpreter.utils.signal.preprocessing import scale_trial

if TYPE_CHECKING:  # it brings TensorFlow
    from sleep_interpreter.model.networks.ensemble import Ensemble

FEWEST_SOURCES = 4
"""Channels with a known place that an interpolation needs at least."""
_CENTRE = (0.0, 0.016, 0.046)
"""Of the sphere that MNE fits to the published channels' places, in m: fixed, so that weights depend on names alone."""


@dataclass(frozen=True, eq=False)
class ChannelMatch:
    """How the channels that a network reads are got from those that there are.

    `places` says for each channel of the network which available one it is, None where it is interpolated: then
    `weights` (C, available) hold its row. `sentence` says what is done, None where nothing is.
    """

    channels: tuple[str, ...]
    available: tuple[str, ...]
    places: tuple[int | None, ...]
    weights: np.ndarray | None = None
    sentence: str | None = None

    @property
    def interpolated(self) -> list[int]:
        """Places of the network's channels that are interpolated."""
        return [place for place, source in enumerate(self.places) if source is None]

    def apply(self, eeg: np.ndarray, axis: int = -1) -> np.ndarray:
        """Return signals of the network's channels in its order, of signals with the available ones along `axis`.

        Values are copied as they are; nothing is computed unless a channel is interpolated.
        """
        if eeg.shape[axis] != len(self.available):
            raise ValueError(f"{eeg.shape[axis]} channels, expected {len(self.available)}")
        if self.places == tuple(range(len(self.available))):
            return eeg
        taken = np.take(eeg, [source or 0 for source in self.places], axis=axis)
        if self.weights is not None:
            rows = self.interpolated
            made = np.tensordot(self.weights[rows], eeg, axes=(1, axis))
            np.moveaxis(taken, axis, 0)[rows] = made
        return taken


def match(
    network_card: DataCard, available_channel_names: Sequence[str], interpolate: bool = False, where: str = "the data"
) -> ChannelMatch:
    """Return how the channels of a network's card are got from available ones, by name.

    Type prefixes, a common reference ("EEG Fz-Ref") and case do not count. More channels than the network reads are
    left out. Missing channels are a `UserError`, or with `interpolate` made of all others whose place on the head is
    known; `where` names the data.
    """
    available = tuple(available_channel_names)
    folded = [electrode(name) for name in available]
    if twice := sorted({name for name in folded if folded.count(name) > 1}):
        same = [name for name in available if electrode(name) == twice[0]]
        raise UserError(f"{where}: channels {', '.join(same)} have one name, so nobody knows which the network reads")
    wanted = [electrode(name) for name in network_card.channels]
    places = tuple(folded.index(name) if name in folded else None for name in wanted)
    missing = [name for name, place in zip(network_card.channels, places, strict=True) if place is None]
    left = [name for name, fold in zip(available, folded, strict=True) if fold not in wanted]
    weights: np.ndarray | None = None
    said = []
    if missing:
        if not interpolate:
            raise UserError(
                f"{where}: {len(missing)} of the {len(wanted)} channels that the network reads are not there: "
                f"{listed(missing)}; there are {listed(available)}. Take a network trained on these channels, or let "
                "the missing ones be interpolated (--interpolate)"
            )
        weights, count = _weights(network_card.channels, available, tuple(missing), where)
        said.append(
            f"{len(missing)} of {len(wanted)} channels interpolated from {count} others (spherical splines of MNE): "
            f"{listed(missing)}"
        )
    there = [place for place in places if place is not None]
    if there != sorted(there):
        said.append("channels are in another order than the network's: taken by name")
    if left:
        said.append(f"left out, since the network does not read them: {listed(left)}")
    sentence = f"{where}: {'; '.join(said)}" if said else None
    return ChannelMatch(network_card.channels, available, places, weights, sentence)


def _weights(
    channels: tuple[str, ...], available: tuple[str, ...], missing: tuple[str, ...], where: str
) -> tuple[np.ndarray, int]:
    """Return the weights (C, available) of missing channels, zero in the rows of the others, and of how many."""
    known = on_head([*available, *missing])
    if unplaced := [name for name in missing if name not in known]:
        raise UserError(
            f"{where}: {listed(unplaced)} cannot be interpolated: their places on the head are unknown (they are "
            "no names of the 10-05 system)"
        )
    sources = [name for name in available if name in known]
    if len(sources) < FEWEST_SOURCES:
        raise UserError(
            f"{where}: {listed(missing)} cannot be interpolated: of the available channels only {len(sources)} have a "
            f"known place on the head, and {FEWEST_SOURCES} are needed"
        )
    some = _spline_weights(tuple(known[name] for name in sources), tuple(known[name] for name in missing))
    weights = np.zeros((len(channels), len(available)))
    columns = [available.index(name) for name in sources]
    for name, row in zip(missing, some, strict=True):
        weights[channels.index(name), columns] = row
    return weights, len(sources)


@cache
def _spline_weights(sources: tuple[str, ...], missing: tuple[str, ...]) -> np.ndarray:
    """Return MNE's weights (missing, sources) of places in the 10-05 system: what it makes of a unit signal in each."""
    import mne  # lazy: start-up

    places = [*sources, *missing]
    whole = mne.create_info(sorted(set(places)), 100.0, "eeg")
    whole.set_montage(standard_montage())
    head = {channel["ch_name"]: channel["loc"][:3] for channel in whole["chs"]}  # in the frame of the head
    names = [f"{number} {place}" for number, place in enumerate(places)]  # one place may have two names (T3, T7)
    info = mne.create_info(names, 100.0, "eeg")
    positions = {name: head[place] for name, place in zip(names, places, strict=True)}
    info.set_montage(mne.channels.make_dig_montage(positions, coord_frame="head"))
    info["bads"] = names[len(sources) :]
    unit = mne.EvokedArray(np.eye(len(names), len(sources)), info, verbose="ERROR")
    unit.interpolate_bads(origin=_CENTRE, method="spline", verbose="ERROR")
    return np.asarray(unit.data[len(sources) :])


@dataclass(frozen=True, eq=False)
class DataMatch:
    """How trials of one card become trials of a network's card: `channels`, and class indices `items`.

    `items` (K,) is the network's class of each item of the data. `sentences` say what differs.
    """

    card: DataCard
    channels: ChannelMatch
    items: np.ndarray
    sentences: tuple[str, ...]

    def trials(self, eeg: np.ndarray) -> np.ndarray:
        """Return trials (..., T, C) as the network reads them; interpolated channels are scaled like the others."""
        matched = self.channels.apply(eeg)
        rows = self.channels.interpolated
        if rows and self.card.unit == "robust":
            made = np.swapaxes(matched[..., rows], -1, -2)
            matched[..., rows] = np.swapaxes(scale_trial(made.astype(float)), -1, -2)
        return matched

    def labels(self, label: np.ndarray) -> np.ndarray:
        """Return class indices (n,) of the data as the network's."""
        places: np.ndarray = self.items[label]
        return places


def match_data(
    network_card: DataCard, card: DataCard, interpolate: bool = False, where: str = "the data",
    network: str = "the network",
) -> DataMatch:  # fmt: skip
    """Return how data with a card become a network's input; a `UserError` names what keeps them apart.

    Channels and items are matched by name. Data of other items, another sampling rate, window or unit are refused;
    another reference or filter is said. `where` names the data, `network` the checkpoint.
    """
    if apart := items_apart("the data", card.item_names, "the network", network_card.item_names):
        raise UserError(
            f"{where}: its {len(card.items)} items are not the {len(network_card.items)} of {network}: {apart}; "
            "train a network on these items"
        )
    for what, own, found in (
        ("sampled at", f"{network_card.rate_hz:g} Hz", f"{card.rate_hz:g} Hz"),
        ("windows", f"from {network_card.windows.sleep.span}", f"from {card.windows.sleep.span}"),
        ("unit", network_card.unit, card.unit),
    ):
        if own != found:
            raise UserError(
                f"{where}: {what} {found}, but {network} was trained on data with {what} {own}; prepare the "
                "recordings anew like those, or train a network on these"
            )
    channels = match(network_card, card.channels, interpolate, where)
    said = [channels.sentence] if channels.sentence else []
    if network_card.item_names != card.item_names:
        said.append(f"{where}: items are in another order than the network's: taken by name")
    for what, own, found in (
        ("reference", network_card.reference, card.reference),
        *(
            (f"filter ({key})", *(getattr(c.filter, key) for c in (network_card, card)))
            for key in ("low_hz", "high_hz")
        ),
    ):
        if None not in (own, found) and own != found:
            said.append(f"{where}: {what} {found}, but {network} was trained on data with {what} {own}")
    items = np.array([network_card.item_index(name) for name in card.item_names], np.int64)
    return DataMatch(network_card, channels, items, tuple(said))


def own_card(network: "Ensemble", called: str) -> DataCard:
    """Return the card of what a network was trained on; refuse one that no card describes."""
    if (own := sizes_read(network)) != sizes_of(network.card):
        raise UserError(
            f"{called}: this network is for trials of {sizes_in_words(own)}, and no data card says which channels and "
            "items these are; train it again, so that its checkpoint does"
        )
    return network.card


def sizes_read(network: "Ensemble") -> tuple[int, int, int]:
    """Return samples, channels and items of the trials that a network reads."""
    return network.settings.sleep_samples, network.settings.channels, network.settings.classes


def sizes_of(card: DataCard) -> tuple[int, int, int]:
    """Return samples, channels and items of a card's sleep trials."""
    return card.sleep_samples, len(card.channels), len(card.items)


def sizes_in_words(sizes: tuple[int, int, int]) -> str:
    """Return samples, channels and items for messages."""
    return "{} samples x {} channels of {} items".format(*sizes)
