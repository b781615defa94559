"""Events of a recording, through the mapping of the settings: which item, which modality, which phase."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import mne
import numpy as np
import pandas as pd

from sleep_interpreter.data.formats.scorings.stage_codes import known
from sleep_interpreter.data.preparation.event_tables import Row, code_of, first_match, read_rows, refuse_other_names
from sleep_interpreter.data.preparation.inputs import Session
from sleep_interpreter.data.preparation.settings import Events, Rule
from sleep_interpreter.utils.core.data_card import ASLEEP, DataCard, published
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.text_tables import EMPTY
from sleep_interpreter.utils.signal.recording import Recording

_NEARLY = re.compile(
    r"(?!(?:.*/)?r\s*\d|response|comment)(?:[^/]*/)?(?:[^\W\d_]+[\s_]*)?[^\w]*0*(\d+)(?:\s*[,;:|(]\D*)?", re.IGNORECASE
)
"""Texts with one number that may be a code: "Trigger 11", "#11", "11, Impedance"; no responses and comments."""
_SAME_SECONDS = 0.1
_MOMENT_SECONDS = 0.02
_ECHO_SECONDS = 0.3  # no two sounds or pictures in turn are so near to each other, time after time
_NEAR_SECONDS = 0.5
_FEW = 4  # events that say nothing of all
_SCORED_SECONDS = 10.0  # what lasts so long and is called as a stage is a scored epoch
COLUMNS = ("onset_s", "item", "item_index", "modality", "phase")


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
    said, coding = [] if remarks is None else remarks, list[tuple[Row, str]]()
    given = _rows(session, recording, annotations, settings, rules, said, counted)
    for row in _without_stages(given, session, staged, said):
        onset, text, code, phase, no_code, stage, *_ = row
        rule, groups = first_match(rules, text, code)
        if stage and rule is not None and rule.code is not None:
            raise UserError(
                f"{display_path(session.path)}: {text!r} at {onset:.2f} s is the sleep stage {text} or the trigger "
                f"{code}, and the recording has no other trigger that is written so; if it is a stage, let "
                "stages.annotation match it; if not, say what it means with a rule with "
                f"match: {text!r}"
            )
        if rule is None:
            if coded and no_code:
                raise UserError(
                    f"{no_code} is no trigger: codes are whole numbers; correct it, write n/a, or give its text a "
                    "rule with modality: ignore"
                )
            unmapped[_told(row, coded)] += 1
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
        name = rule.item or groups.get("item")
        item = "n/a" if name is None else settings.items.get(name, name)
        if (name is not None or modality != "sham") and item not in card.item_names:
            close = nearest(item, card.item_names, 1)
            hint = f"did you mean {close[0]!r}?" if close else "name it in events.items"
            raise UserError(f"{where}: {name!r} is none of the {len(card.items)} items; {hint}")
        if rule.code is not None and name is not None:
            coding.append((row, item))
        phase = rule.phase or groups.get("phase") or phase
        if settings.phases is None or phase in settings.phases:
            index = -1 if name is None else card.item_index(item)
            found.append((onset + settings.shift_seconds, item, index, modality, phase))
    refuse_other_names(coding, {name.casefold(): name for name in card.item_names}
                       | {name.casefold(): item for name, item in settings.items.items()})  # fmt: skip
    said += _nearly_codes(unmapped, rules, staged)
    table = pd.DataFrame(found, columns=list(COLUMNS)).astype({"onset_s": float, "item_index": int})
    if settings.source == "events_tsv":
        _refuse_minutes(table, session, recording)
    inside = (table.onset_s >= 0) & (table.onset_s < recording.seconds)
    if (~inside).sum() > len(table) / 2:
        raise UserError(_most_outside(table.onset_s.to_numpy(), session, recording, settings))
    _refuse_shifted(table.onset_s.to_numpy(), session, recording, settings)
    if not inside.all():
        said.append(f"{int((~inside).sum())} of {len(table)} events lie outside the recording: left out")
    table = table[inside].sort_values("onset_s", kind="stable", ignore_index=True)
    return _once(table, display_path(session.path), said), dict(unmapped)


def _told(row: Row, coded: bool) -> str:
    """Return what an event that no rule knows is called: its text, and its code if this is another matter."""
    if row.text is None or row.text.casefold() in EMPTY:
        return row.text or "n/a" if row.code is None else str(row.code) if row.text is None else f"value {row.code}"
    return row.text if not coded or row.code in (None, code_of(row.text)) else f"{row.text}, value {row.code}"


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
    outside = int(((onset < 0) | (onset >= recording.seconds)).sum())
    units = [
        words
        for words, scale in ((f"samples at {recording.rate:g} Hz", recording.rate), ("ms", 1e3), ("µs", 1e6))
        if (onset >= 0).all() and recording.seconds / 20 < onset.max() / scale < recording.seconds
    ]
    hint = f"they fit if they are {' or '.join(units)}; " if units else ""
    return (
        f"{_source(session, settings)}: {outside} of {len(onset)} events lie outside the recording "
        f"({recording.seconds:g} s): from {onset.min():g} to {onset.max():g} s; {hint}"
        "write onsets in s from the recording's first sample "
        "(events.shift_seconds is added to them), or take out the rows of other recordings"
    )


def _source(session: Session, settings: Events) -> str:
    """Return the file that the events are from."""
    return display_path(
        session.events if settings.source == "events_tsv" and session.events is not None else session.path
    )


def _refuse_shifted(onset: np.ndarray, session: Session, recording: Recording, settings: Events) -> None:
    """Refuse events of which many lie before the recording or behind it, if all fit in when their times are shifted.

    Those of a run may be counted on from the one before. Where they do not fit at all, some were not recorded.
    """
    before, behind = int((onset < 0).sum()), int((onset >= recording.seconds).sum())
    if before + behind <= max(_FEW, len(onset) / 4) or (before and behind) or np.ptp(onset) >= recording.seconds:
        return
    where = (
        f"{behind} of {len(onset)} events lie behind the end"
        if behind
        else f"{before} of {len(onset)} events lie before the beginning"
    )
    raise UserError(
        f"{_source(session, settings)}: {where} of the recording ({recording.seconds:g} s), from {onset.min():g} to "
        f"{onset.max():g} s, and all would fit in if their times began at another moment, as those of a run that was "
        "counted on from the one before; write onsets in s from the recording's first sample (events.shift_seconds is "
        "added to them), or take out the rows of what was not recorded"
    )


def _refuse_minutes(table: pd.DataFrame, session: Session, recording: Recording) -> None:
    """Refuse events that follow each other too fast, all at the recording's beginning: they are in a larger unit."""
    kinds = [np.unique(own.onset_s) for _, own in table.groupby("modality")]
    apart = np.concatenate([np.zeros(0), *(np.diff(own) for own in kinds)])
    if len(apart) < _FEW or table.onset_s.min() < 0:
        return
    usual, last = float(np.quantile(apart, 0.75)), float(table.onset_s.max())
    units = {words: scale for words, scale in (("minutes", 60), ("hours", 3600)) if last * scale <= recording.seconds}
    if usual < _NEAR_SECONDS and units:
        words = next((words for words, scale in units.items() if usual * scale >= _NEAR_SECONDS), "minutes")
        raise UserError(
            f"{display_path(session.events or session.path)}: its {len(table)} events follow each other within "
            f"{usual:.2g} s, all in the first {last:.3g} s of {recording.seconds:g} s; they fit if they are {words}; "
            "write onsets in s from the recording's first sample"
        )


def event_of(text: str, session: Session, settings: Events) -> bool:
    """Tell whether a rule takes an annotation of a session for an event of the experiment by its text."""
    rules = [rule for rule in settings.all_rules if session.is_of(rule.session, rule.run)]
    rule, _ = first_match(rules, text, None)
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
    for kind in sorted(set(kinds)):
        _tell_echoes([rows[k] for k, other in zip(kept, kinds, strict=True) if other == kind], kind, where, remarks)
    if copies:
        remarks.append(
            f"{len(copies)} events stand twice (one item within {_SAME_SECONDS:g} s) and count once; the first one is "
            f"{rows[copies[0]][3]} {rows[copies[0]][1]!r} at {rows[copies[0]][0]:.3f} s"
        )
        table = table.assign(phase=pd.Series(phase, table.index, dtype=object)).iloc[kept].reset_index(drop=True)
    return table


def _tell_echoes(rows: Sequence[tuple[float, str, int, str]], kind: str, where: str, remarks: list[str]) -> None:
    """Refuse events of which each has a second one close behind it; tell those of which some have."""
    apart = np.diff([row[0] for row in rows])
    near = apart <= _ECHO_SECONDS
    alone = near & ~np.append(near[1:], False) & ~np.append(False, near[:-1])  # pairs, and no stream of pictures
    few = np.flatnonzero(apart <= _NEAR_SECONDS)
    if not len(few):
        return
    (first, item, *_), (second, other, *_) = rows[few[0]], rows[few[0] + 1]
    first_ones = f"the first ones: {item!r} at {first:.3f} s, {other!r} at {second:.3f} s"
    remedy = "take what is no event of its own out, or give it a rule with modality: ignore"
    if alone.sum() >= _FEW and 2 * alone.sum() >= 0.9 * len(rows):
        raise UserError(
            f"{where}: each {kind} is followed by another one within {_ECHO_SECONDS:g} s ({first_ones}), so that every "
            f"trial would be there twice; {remedy}"
        )
    remarks.append(
        f"WARNING: {len(few)} {kind} events begin within {_NEAR_SECONDS:g} s of the one before ({first_ones}): their "
        f"trials are nearly the same samples; {remedy}"
    )


def _rows(
    session: Session,
    recording: Recording,
    annotations: mne.Annotations,
    settings: Events,
    rules: Sequence[Rule],
    remarks: list[str],
    counted: bool | None,
) -> list[Row]:
    if settings.source == "stim":
        return _triggers(recording, settings, remarks)
    if settings.source == "events_tsv":
        return read_rows(session, recording, rules, counted, remarks)
    # MNE counts onsets from the measurement's start, which may lie before the first sample.
    return [
        Row(float(onset) - recording.first_time, str(text).strip(), code_of(text), seconds=float(duration))
        for onset, duration, text in zip(annotations.onset, annotations.duration, annotations.description, strict=True)
    ]


def _triggers(recording: Recording, settings: Events, remarks: list[str]) -> list[Row]:
    found = recording.triggers(settings.stim_channel)
    first, *others = recording.trigger_channels() if settings.stim_channel is None else [settings.stim_channel]
    if others:
        remarks.append(f"triggers are those of {first}; there are {', '.join(others)} too (events.stim_channel)")
    if not found:
        remarks.append(f"the trigger channel {first} holds no trigger")
    return [Row(onset, None, code) for onset, code in found]


def _without_stages(rows: list[Row], session: Session, staged: str | None, remarks: list[str]) -> list[Row]:
    """Return rows without the codes of those that are stages; what may be a stage by its name is marked.

    Stages are what `staged` matches, and, where triggers are short, what is called as one and lasts as long as an
    epoch. "S2" may be one in a recording of sleep, unless there are such texts with numbers that no stage has, written
    in the same way ("S12", not "S 12").
    """
    texts = [row.text or "" for row in rows]
    asleep = session.kind == "sleep"
    spaced = any(re.fullmatch(r"(?i)s +\d+", text) for text in texts)  # in columns of three: "S  1", "S 12", "S123"
    other = any(
        re.fullmatch(r"(?i)s\d{1,2}" if spaced else r"(?i)s\d+", text) and known(text) is None for text in texts
    )
    doubtful = asleep and not other
    short = any(row.code is not None and row.seconds < _SCORED_SECONDS for row in rows)
    found, long = list[Row](), list[str]()
    for row, text in zip(rows, texts, strict=True):
        stage = re.fullmatch(staged, text) if staged is not None else None
        named = stage is not None and known(stage.groupdict().get("stage") or "") is not None
        scored = asleep and short and row.seconds >= _SCORED_SECONDS and _may_be_stage(text)
        if row.code is not None and (named or scored or (stage is not None and code_of(text) is not None)):
            found.append(row._replace(code=None))
            if stage is None:
                long.append(text)
        else:
            found.append(
                row._replace(stage=doubtful and bool(re.fullmatch(r"(?i)s\d+", text)) and known(text) is not None)
            )
    if long:
        remarks.append(
            f"{len(long)} events with the number of a trigger last {_SCORED_SECONDS:g} s and more and are called as "
            f"stages: taken for scored epochs, no triggers ({', '.join(map(repr, list(dict.fromkeys(long))[:5]))}; a "
            "rule with match for the text takes them all the same)"
        )
    return found


def _may_be_stage(text: str) -> bool:
    """Tell whether a text is the name of a stage or a number that stands for one: "N2", "S 2", "S0", "2"."""
    if re.fullmatch(r"\d+", text):
        return len(text) == 1 and text <= "5"
    return text.casefold() not in EMPTY and known(re.sub(r"(?i)^s +", "s", text)) is not None
