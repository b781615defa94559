"""Events of a recording, through the mapping of the settings: which item, which modality, which phase."""

import contextlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import mne
import numpy as np
import pandas as pd

from sleep_interpreter.data.formats.scorings.stage_codes import known
from sleep_interpreter.data.preparation.bids_tables import read_bids_table
from sleep_interpreter.data.preparation.inputs import Session
from sleep_interpreter.data.preparation.pauses import events_in_time
from sleep_interpreter.data.preparation.settings import Events, Rule
from sleep_interpreter.utils.core.data_card import ASLEEP, DataCard, published
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.text_tables import EMPTY, is_number
from sleep_interpreter.utils.signal.recording import Recording

_ROUNDED = 1e-3  # a number as near to a whole one as this had its decimals added by a program
_NO_CODE = re.compile(r"[-+]?\d*[.,]?\d+(?:e[-+]?\d+)?|(?:0[xb]|&h|\$)[0-9a-f]+", re.IGNORECASE)
_NEARLY = re.compile(
    r"(?!(?:.*/)?r\s*\d|response|comment)(?:[^/]*/)?(?:[^\W\d_]+[\s_]*)?[^\w]*0*(\d+)(?:\s*[,;:|(]\D*)?", re.IGNORECASE
)
"""Texts with one number that may be a code: "Trigger 11", "#11", "11, Impedance"; no responses and comments."""
_SAME_SECONDS = 0.1
_MOMENT_SECONDS = 0.02
COLUMNS = ("onset_s", "item", "item_index", "modality", "phase")


class Row(NamedTuple):
    """One event of a recording, before a rule says what it means."""

    onset: float  # s
    text: str | None
    code: int | None
    phase: str | None = None
    no_code: str = ""  # place and value of a number that is no whole one, where a code would stand
    stage: bool = False  # the text may be a sleep stage as well: "S2"


def read_events(
    session: Session, recording: Recording, annotations: mne.Annotations, settings: Events,
    remarks: list[str] | None = None, card: DataCard | None = None, counted: bool | None = None,
    staged: str | None = None,
) -> tuple[pd.DataFrame, dict[str, int]]:  # fmt: skip
    """Return what was shown or played when; what the user should know is appended to `remarks`.

    `card` says which items and conditions there are (None: the published); `counted` whether the times of an
    events.tsv count the recording's gaps (`pauses.events_in_time`); a text that `staged`, a regular expression,
    matches is a sleep stage and no code. The table, sorted by onset, has columns
    onset_s (s after the recording's first sample), item, item_index, modality ("image", "audio", "cue", "sham") and
    phase (text or None); a sham need not be of an item: "n/a", -1. Beside it are {text or code that no rule knows:
    count}. Refuses a source of events that is not there, and items and modalities that do not exist.
    """
    card = published() if card is None else card
    rules = [rule for rule in settings.all_rules if session.is_of(rule.session, rule.run)]
    found = []
    unmapped: Counter[str] = Counter()
    coded = any(rule.code is not None for rule in rules)
    given = _rows(session, recording, annotations, settings, remarks, counted)
    for onset, text, code, phase, no_code, stage in _without_stages(given, session, staged):
        rule, groups = _first_match(rules, text, code)
        if stage and rule is not None and rule.code is not None:
            raise UserError(
                f"{display_path(session.path)}: {text!r} at {onset:.2f} s is the sleep stage {text} or the trigger "
                f"{code}, and the recording has no other trigger that begins so; if it is a stage, let "
                "stages.annotation match it; if not, say what it means with a rule with "
                f"match: {text!r}"
            )
        if rule is None:
            if coded and no_code:
                raise UserError(
                    f"{no_code} is no trigger: codes are whole numbers; correct it, write n/a, or give its text a "
                    "rule with modality: ignore"
                )
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
    if remarks is not None:
        remarks += _nearly_codes(unmapped, rules, staged)
    table = pd.DataFrame(found, columns=list(COLUMNS)).astype({"onset_s": float, "item_index": int})
    inside = (table.onset_s >= 0) & (table.onset_s < recording.seconds)
    if (~inside).sum() > len(table) / 2:
        raise UserError(_most_outside(table.onset_s.to_numpy(), session, recording, settings))
    if remarks is not None and not inside.all():
        remarks.append(f"{int((~inside).sum())} of {len(table)} events lie outside the recording: left out")
    table = table[inside].sort_values("onset_s", kind="stable", ignore_index=True)
    return _once(table, display_path(session.path), [] if remarks is None else remarks), dict(unmapped)


def _nearly_codes(unmapped: Mapping[str, int], rules: Sequence[Rule], staged: str | None) -> list[str]:
    """Return a warning of texts that hold the number of a rule and match none, with rules that would."""
    codes = {rule.code: rule for rule in rules if rule.code is not None}
    texts = dict[str, Rule]()
    for text in unmapped:
        found = _NEARLY.fullmatch(text.strip())
        number = int(found[1]) if found else None
        if number in codes and known(text) is None and not (staged and re.fullmatch(staged, text)):
            texts[text] = codes[number]
    if not texts:
        return []
    text, rule = next(iter(texts.items()))
    fields = {
        "match": re.sub(r"([\\.^$*+?{}\[\]|()])", r"\\\1", text).replace("'", "''"),
        "item": rule.item,
        "modality": rule.modality,
    }
    new = ", ".join(f"{key}: '{value}'" for key, value in fields.items() if value)
    listed = ", ".join(f"{text!r} ({unmapped[text]})" for text in list(texts)[:5]) + ", ..." * (len(texts) > 5)
    return [
        f"WARNING: {sum(unmapped[text] for text in texts)} events hold the number of a rule, but are no bare code, "
        f"and are left out: {listed}; if they are triggers, add rules with their text to events.rules: {{{new}}}"
    ]


def _most_outside(onset: np.ndarray, session: Session, recording: Recording, settings: Events) -> str:
    """Return what there is to say of events most of which lie outside the recording."""
    where = session.events if settings.source == "events_tsv" and session.events is not None else session.path
    outside = int(((onset < 0) | (onset >= recording.seconds)).sum())
    units = [
        words
        for words, scale in ((f"samples at {recording.rate:g} Hz", recording.rate), ("ms", 1e3), ("µs", 1e6))
        if (onset >= 0).all() and recording.seconds / 20 < onset.max() / scale < recording.seconds
    ]
    hint = f"they fit if they are {' or '.join(units)}; " if units else ""
    return (
        f"{display_path(where)}: {outside} of {len(onset)} events lie outside the recording ({recording.seconds:g} s): "
        f"from {onset.min():g} to {onset.max():g} s; {hint}write onsets in s from the recording's first sample "
        "(events.shift_seconds is added to them), or take out the rows of other recordings"
    )


def event_of(text: str, session: Session, settings: Events) -> bool:
    """Tell whether a rule takes an annotation of a session for an event of the experiment by its text."""
    rules = [rule for rule in settings.all_rules if session.is_of(rule.session, rule.run)]
    rule, _ = _first_match(rules, text, None)
    return rule is not None and rule.modality != "ignore"


def _once(table: pd.DataFrame, where: str, remarks: list[str]) -> pd.DataFrame:
    """Return events, in order of time, without those that stand twice; refuse two meanings of one moment.

    The second of two events of one item and modality within 0.1 s is the same event once more. Two items of one
    modality within 0.02 s, a cue and a sham, or one event in two phases cannot both be right.
    """
    copies, last = list[int](), dict[tuple[int, str], int]()
    phase = table.phase.astype(object).where(table.phase.notna(), None).tolist()
    rows = list(zip(table.onset_s, table["item"], table.item_index, table.modality, strict=True))
    for place, (onset, item, index, modality) in enumerate(rows):
        before = last.get((index, modality))
        if before is not None and onset - rows[before][0] <= _SAME_SECONDS:
            if None not in (phase[before], phase[place]) and phase[before] != phase[place]:
                raise UserError(
                    f"{where}: {modality} {item!r} at {onset:.3f} s is of phase {phase[before]!r} and of "
                    f"{phase[place]!r}; take one of the two events out"
                )
            phase[before] = phase[place] if phase[before] is None else phase[before]
            copies.append(place)
        else:
            last[index, modality] = place
    kept = np.setdiff1d(np.arange(len(table)), copies)
    kinds = ["cue" if rows[k][3] == "sham" else rows[k][3] for k in kept]
    for kind in set(kinds):
        own = [int(k) for k, other in zip(kept, kinds, strict=True) if other == kind]
        for one, other in pairwise(own):
            (first, item, _, modality), (onset, another, _, also) = rows[one], rows[other]
            if onset - first <= _MOMENT_SECONDS:
                raise UserError(
                    f"{where}: {modality} {item!r} at {first:.3f} s and {also} {another!r} at {onset:.3f} s are at one "
                    "moment; a trial is of one of them: take the other event out, or give it a rule with "
                    "modality: ignore"
                )
    if copies:
        remarks.append(
            f"{len(copies)} events stand twice (one item within {_SAME_SECONDS:g} s) and count once; the first one is "
            f"{rows[copies[0]][3]} {rows[copies[0]][1]!r} at {rows[copies[0]][0]:.3f} s"
        )
        table = table.assign(phase=pd.Series(phase, table.index, dtype=object)).iloc[kept].reset_index(drop=True)
    return table


def _rows(
    session: Session,
    recording: Recording,
    annotations: mne.Annotations,
    settings: Events,
    remarks: list[str] | None,
    counted: bool | None,
) -> list[Row]:
    if settings.source == "stim":
        return _triggers(recording, settings, [] if remarks is None else remarks)
    if settings.source == "events_tsv":
        return _table(session, recording, counted, remarks)
    # MNE counts onsets from the measurement's start, which may lie before the first sample.
    return [
        Row(float(onset) - recording.first_time, str(text).strip(), _number(text))
        for onset, text in zip(annotations.onset, annotations.description, strict=True)
    ]


def _triggers(recording: Recording, settings: Events, remarks: list[str]) -> list[Row]:
    found = recording.triggers(settings.stim_channel)
    first, *others = recording.trigger_channels() if settings.stim_channel is None else [settings.stim_channel]
    if others:
        remarks.append(f"triggers are those of {first}; there are {', '.join(others)} too (events.stim_channel)")
    if not found:
        remarks.append(f"the trigger channel {first} holds no trigger")
    return [Row(onset, None, code) for onset, code in found]


def _table(
    session: Session, recording: Recording, counted: bool | None, remarks: list[str] | None = None
) -> list[Row]:  # fmt: skip
    if session.events is None:
        raise UserError(
            f"{session.path}: events.source is events_tsv, but there is no events.tsv beside it; "
            "use annotations or stim"
        )
    shown, given = display_path(session.events), read_bids_table(session.events, "onset")
    table = given.frame()
    onset = np.array([_seconds(o, f"{shown}, line {line}") for line, o in zip(table.index, table.onset, strict=True)])
    told = [given.header.index(name) + 1 for name in ("onset", "trial_type", "value") if name in given.header]
    for line, row, cells in zip(given.lines, given.rows, given.cells, strict=True):
        if any(row) and cells < max(told):
            raise UserError(
                f"{shown}, line {line}: has {cells} cells, {given.header[max(told) - 1]!r} is column {max(told)} of "
                f"{len(given.header)}; write what is missing, or n/a"
            )
    if remarks is not None and not recording.timeline:
        remarks += _other_samples(table, onset, recording, shown)
    times = events_in_time(onset, recording.timeline, counted, shown)
    text = table.get("trial_type", [None] * len(table))
    values = table.get("value", text)
    if all(value.casefold() in EMPTY for value in values if value is not None):
        values = text  # a column that says nothing
    elif values is not text:
        values = _codes(table, shown, [] if remarks is None else remarks)
    rows = []
    phases = table.get("phase", [""] * len(table))
    for line, o, t, c, p in zip(table.index, times, text, values, phases, strict=True):
        code = _number(c)
        no_code = code is None and _NO_CODE.fullmatch(str(c).strip())
        place = f"{shown}, line {line}: value {c!r}" if no_code else ""
        rows.append(Row(float(o), t, code, p if p not in ("", "n/a") else None, place))
    return rows


def _codes(table: pd.DataFrame, shown: str, remarks: list[str]) -> pd.Series:
    """Return the column of an events.tsv that holds the codes where `trial_type` and `value` may say different ones.

    mne-bids fills `value` with numbers of its own: those of the texts in alphabetical order. Then the codes are those
    in the texts ("Stimulus/S 11"). Refuses any other table in which the two disagree. A bare number in `trial_type` may
    be that of a condition.
    """
    text, value = table.get("trial_type"), table["value"]
    if text is None:
        return value
    both = [
        (line, t, None if is_number(t) else _number(t), _number(v))
        for line, t, v in zip(table.index, text, value, strict=True)
    ]
    apart = next(((line, t, own, v) for line, t, own, v in both if own is not None and v not in (None, own)), None)
    if apart is None:
        return value
    numbers = {t: v for _, t, _, v in both if v is not None}
    whole = all(numbers[t] == v for _, t, _, v in both if v is not None)
    if (
        whole
        and list(numbers[t] for t in sorted(numbers)) == sorted(set(numbers.values()))
        and max(numbers.values()) <= text.nunique()
    ):
        remarks.append("the column value numbers the texts by the alphabet (mne-bids): codes are those in trial_type")
        return text
    line, name, own, number = apart
    raise UserError(
        f"{shown}, line {line}: trial_type {name!r} is code {own}, value is {number}; take the column that is wrong "
        "out (or use events.source=annotations)"
    )


def _seconds(cell: str, where: str) -> float:
    """Return an onset in s; refuse, by `where`, what is none."""
    with contextlib.suppress(ValueError):
        if np.isfinite(number := float(cell)):
            return number
    comma = is_number(cell) and "; write a decimal point"
    raise UserError(
        f"{where}: onset {cell!r} is no number of seconds{comma or '; write the time after the first sample in s'}"
        ", or take the row out"
    )


def _other_samples(table: pd.DataFrame, onset: np.ndarray, recording: Recording, shown: str) -> list[str]:
    """Return a warning where a column `sample` says other times than the onsets, else nothing."""
    sample = pd.to_numeric(table.get("sample", pd.Series(dtype=float)), errors="coerce").to_numpy(float)
    if len(sample) != len(onset):
        return []
    apart = np.abs(sample / recording.rate - onset)
    if not (apart > 1).any():
        return []
    row = int(np.argmax(apart > 1))
    return [
        f"WARNING: {shown}, line {table.index[row]}: onset is {onset[row]:g} s, sample {sample[row]:g} is "
        f"{sample[row] / recording.rate:g} s at {recording.rate:g} Hz ({int((apart > 1).sum())} rows are more than 1 s "
        "apart); the onsets are taken, correct them if the samples are right"
    ]


def _without_stages(rows: list[Row], session: Session, staged: str | None) -> list[Row]:
    """Return rows without the codes of those that are stages; what may be a stage by its name is marked.

    "S2" is one in a recording of sleep, unless there are such texts with numbers that no stage has ("S 12").
    """
    texts = [row.text or "" for row in rows]
    other = any(re.fullmatch(r"s\s*\d+", text, re.IGNORECASE) and known(text) is None for text in texts)
    doubtful = session.kind == "sleep" and not other
    return [
        row._replace(code=None)
        if staged is not None and _number(text) is not None and re.fullmatch(staged, text)
        else row._replace(stage=doubtful and bool(re.fullmatch(r"(?i)s *\d+", text)) and known(text) is not None)
        for row, text in zip(rows, texts, strict=True)
    ]


def _number(text: object) -> int | None:
    """Return the trigger's number in "S  12", "Stimulus/S 12", "12" or "12.0"; None where there is none.

    Any letter but R may stand before the number of a "Stimulus/", S alone elsewhere: "N2" is a stage, "C3" an
    electrode. The number of a response ("Response/R  1") or a comment is another matter: rules match those by text.
    Decimals that a program added are rounded ("11.0", "10.9999998"); other numbers with decimals are no code.
    """
    pattern = r"(?:(?:stimulus|trigger)/(?!r)[a-z]?|s?)\s*(\d+)([.,]\d*)?"
    found = re.fullmatch(pattern, str(text).strip(), re.IGNORECASE)
    if found is None:
        return None
    number = float(found[1] + (found[2] or "").replace(",", "."))
    return round(number) if abs(number - round(number)) <= _ROUNDED else None


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
