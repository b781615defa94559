"""Events of a recording, through the mapping of the settings: which item, which modality, which phase."""

import re
from collections import Counter
from collections.abc import Sequence

import mne
import numpy as np
import pandas as pd

from sleep_interpreter.data.preparation.inputs import Session
from sleep_interpreter.data.preparation.settings import Events, Rule
from sleep_interpreter.utils.core.data_card import ASLEEP, DataCard, published
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.text_tables import told_table
from sleep_interpreter.utils.signal.recording import Recording

COLUMNS = ("onset_s", "item", "item_index", "modality", "phase")
Row = tuple[float, str | None, int | None, str | None]
"""Onset in s, text, number and phase of one event of a recording."""


def read_events(
    session: Session, recording: Recording, annotations: mne.Annotations, settings: Events,
    remarks: list[str] | None = None, card: DataCard | None = None,
) -> tuple[pd.DataFrame, dict[str, int]]:  # fmt: skip
    """Return what was shown or played when; what the user should know is appended to `remarks`.

    `card` says which items and conditions there are (None: the published). The table, sorted by onset, has columns
    onset_s (s after the recording's first sample), item, item_index, modality ("image", "audio", "cue", "sham") and
    phase (text or None); a sham need not be of an item: "n/a", -1. Beside it are {text or code that no rule knows:
    count}. Refuses a source of events that is not there, and items and modalities that do not exist.
    """
    card = published() if card is None else card
    rules = [rule for rule in settings.all_rules if _applies(rule, session)]
    found = []
    unmapped: Counter[str] = Counter()
    for onset, text, code, phase in _rows(session, recording, annotations, settings):
        rule, groups = _first_match(rules, text, code)
        if rule is None:
            unmapped[text if text is not None else str(code)] += 1
            continue
        if rule.modality == "ignore":
            continue
        where = f"{display_path(session.path)}: event {text if text is not None else code!r} at {onset:.2f} s"
        modality = rule.modality or groups["modality"]
        if modality not in ("image", "audio", "cue", "sham"):
            raise UserError(f"{where}: modality {modality!r}; there are image, audio, cue and sham (events.rules)")
        asleep = modality in ("cue", "sham")
        if not any(condition in card.conditions for condition in (ASLEEP if asleep else (modality,))):
            there = ", ".join(card.conditions)
            raise UserError(
                f"{where}: is of modality {modality!r}, but the data card has trials of {there} only; "
                "a rule with modality: ignore leaves such events out"
            )
        text = rule.item or groups.get("item")
        item = "n/a" if text is None else settings.items.get(text, text)
        if (text is not None or modality != "sham") and item not in card.item_names:
            close = nearest(item, card.item_names, 1)
            hint = f"did you mean {close[0]!r}?" if close else "name it in events.items"
            raise UserError(f"{where}: {text!r} is none of the {len(card.items)} items; {hint}")
        phase = rule.phase or groups.get("phase") or phase
        if settings.phases is None or phase in settings.phases:
            index = -1 if text is None else card.item_index(item)
            found.append((onset + settings.shift_seconds, item, index, modality, phase))
    table = pd.DataFrame(found, columns=list(COLUMNS)).astype({"onset_s": float, "item_index": int})
    inside = (table.onset_s >= 0) & (table.onset_s < recording.seconds)
    if remarks is not None and not inside.all():
        remarks.append(f"{int((~inside).sum())} of {len(table)} events lie outside the recording: left out")
    return table[inside].sort_values("onset_s", kind="stable", ignore_index=True), dict(unmapped)


def _rows(session: Session, recording: Recording, annotations: mne.Annotations, settings: Events) -> list[Row]:
    if settings.source == "stim":
        return [(onset, None, code, None) for onset, code in recording.triggers(settings.stim_channel)]
    if settings.source == "events_tsv":
        return _table(session)
    # MNE counts onsets from the measurement's start, which may lie before the first sample.
    return [
        (float(onset) - recording.first_time, str(text).strip(), _number(text), None)
        for onset, text in zip(annotations.onset, annotations.description, strict=True)
    ]


def _table(session: Session) -> list[Row]:
    if session.events is None:
        raise UserError(
            f"{session.path}: events.source is events_tsv, but there is no events.tsv beside it; "
            "use annotations or stim"
        )
    table = told_table(session.events, "\t").frame()
    if "onset" not in table:
        raise UserError(f"{session.events}: no column 'onset'; it has {', '.join(table.columns)}")
    onset = pd.to_numeric(table.onset, errors="coerce")
    if not np.isfinite(onset).all():
        raise UserError(f"{session.events}: column 'onset' holds what is no number of seconds")
    text = table.get("trial_type", [None] * len(table))
    rows = zip(onset, text, table.get("value", text), table.get("phase", [""] * len(table)), strict=True)
    return [(float(o), t, _number(c), p if p not in ("", "n/a") else None) for o, t, c, p in rows]


def _number(text: object) -> int | None:
    """Return the trigger's number in "S  12", "Stimulus/S 12" or "12"; None where there is none.

    The number of a response ("Response/R  1") or a comment is another matter: rules match those by text.
    """
    found = re.fullmatch(r"(?:(?:stimulus|trigger)/)?(?!r)[a-z]?\s*(\d+)", str(text).strip(), re.IGNORECASE)
    return int(found[1]) if found else None


def _applies(rule: Rule, session: Session) -> bool:
    """Tell whether a rule is one of this recording's session and run."""
    if rule.session is not None and rule.session.casefold() not in {name.casefold() for name in session.names}:
        return False
    return rule.run is None or (session.run is not None and rule.run.lstrip("0") == session.run.lstrip("0"))


def _first_match(rules: Sequence[Rule], text: str | None, code: int | None) -> tuple[Rule | None, dict[str, str]]:
    for rule in rules:
        if rule.code is not None:
            if code == rule.code:
                return rule, {}
        elif text is not None and rule.match is not None:
            # MNE puts the kind of marker before BrainVision's: "Comment/cue/alarm"
            for candidate in dict.fromkeys([text, text.partition("/")[2]]):
                found = re.fullmatch(rule.match, candidate) if candidate else None
                if found:
                    return rule, found.groupdict()
    return None, {}
