"""Which data cards a session follows: its own (items, decode window), and those of its decoders' data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sleep_interpreter.realtime.Parameters.settings import SessionSettings
from sleep_interpreter.utils.core import config, data_card
from sleep_interpreter.utils.core.data_card import DataCard, published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.signal.channel_names import electrode


@dataclass(frozen=True)
class SessionCards:
    """The `session`'s card, and {"NREM" | "REM": card} of what its `decoders` were trained on."""

    session: DataCard = field(default_factory=published)
    decoders: Mapping[str, DataCard] = field(default_factory=dict)

    @property
    def decoder_channels(self) -> tuple[str, ...]:
        """Every channel that a decoder reads, once."""
        found: dict[str, str] = {}
        for name in (name for card in self.decoders.values() for name in card.channels):
            found.setdefault(electrode(name), name)
        return tuple(found.values())


def session_cards(settings: SessionSettings, own: DataCard | None = None) -> SessionCards:
    """Return the cards of a session: the one that the settings name, else its decoders', else the published one.

    `own` is that of a session that goes on or is replayed, and stands before all others. A `UserError` tells of a file
    that cannot be read, and of two that do not fit together, with both names.
    """
    paths = settings.decoder.checkpoints
    decoders = {kind: _checkpoint_card(path) for kind, path in paths.items()}
    named = {display_path(path): decoders[kind] for kind, path in paths.items()}
    if own is not None:
        named = {f"this session's {data_card.FILE}": own, **named}
    elif settings.card is not None:
        path = data_card.file_of(settings.card)
        if not path.is_file():
            raise UserError(f"card: {path}: there is no such file; a data card is the {data_card.FILE} of a data set")
        if path.suffix not in (".yaml", ".yml"):
            raise UserError(f"card: {path}: a data card is a YAML file, such as the {data_card.FILE} of a data set")
        named = {display_path(path): config.load(DataCard, path), **named}
    first = next(iter(named), None)
    if first is None:
        return SessionCards()
    for other in list(named)[1:]:
        _refuse_other(named[first], first, named[other], other)
    session = named[first]
    low = settings.cues.interval_seconds[0]
    end = session.cut_to_shortest().windows.sleep.end
    if decoders and settings.cues.mode == "scheduled" and low < end:
        least = "at least " if session.varying_lengths else ""
        raise UserError(
            f"cues.interval_seconds begins with {low:g} s, but the response to a cue is read for {least}"
            f"{end:g} s ({first}): the next cue would lie in it"
        )
    return SessionCards(session, decoders)


def _checkpoint_card(path: str | Path) -> DataCard:
    """Return the card in a checkpoint's notes; of one without, such as the released ones, the published card."""
    from sleep_interpreter.model.checkpoints import npz_archive, tf_checkpoint  # lazy: start-up

    path = Path(path)
    if path.suffix != ".npz" and tf_checkpoint.is_one(path):
        return published()
    header = npz_archive.read_header(path)
    notes = header.get("notes") if isinstance(header, dict) else None
    return data_card.from_notes(notes if isinstance(notes, dict) else {}, display_path(path))


def _refuse_other(own: DataCard, where: str, other: DataCard, elsewhere: str) -> None:
    """Refuse two cards of other items, windows or rates; the order of items may differ, they go by name."""
    remedy = "choose the decoder that was trained on these items and windows, or its card (card: null takes it)"
    apart = data_card.items_apart(where, own.item_names, elsewhere, other.item_names)
    said = [f"the items: {apart}"] if apart else []
    for what, one, two in (
        ("the window of a response", own.windows.sleep.span, other.windows.sleep.span),
        ("the sampling rate", f"{own.rate_hz:g} Hz", f"{other.rate_hz:g} Hz"),
    ):
        said += [f"{what}: {where} has {one}, {elsewhere} has {two}"] if one != two else []
    if said:
        raise UserError(f"{where} and {elsewhere} do not fit together: {'; '.join(said)}; {remedy}")
