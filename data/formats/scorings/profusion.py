"""XML: Compumedics Profusion, NSRR, Wonambi, Luna's and EDFbrowser's lists of annotations."""

import xml.etree.ElementTree as Xml
from collections import Counter
from dataclasses import replace

from sleep_interpreter.data.formats.scorings import clock
from sleep_interpreter.data.formats.scorings.scoring import (
    Row,
    Scoring,
    ScoringFile,
    ScoringOptions,
    held,
    refuse_unknown,
    stages_among,
)
from sleep_interpreter.data.formats.scorings.stage_codes import known
from sleep_interpreter.utils.core.errors import UserError


class Profusion:
    """XML of Profusion: an element SleepStages with a number an epoch, or ScoredEvents as NSRR writes them."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether it is XML."""
        return file.path.suffix.lower() == ".xml" or (
            not file.head.startswith(b"0       ") and file.text.lstrip().startswith("<?xml")
        )

    @staticmethod
    def read(file: ScoringFile, options: ScoringOptions) -> Scoring:
        """Read the stages; numbers are those of R&K (5 = REM), as Profusion writes them."""
        try:
            root = Xml.fromstring(file.text.lstrip())
        except (Xml.ParseError, ValueError) as error:
            raise UserError(f"{file.where}: no readable XML ({error})") from None
        for element in root.iter():
            element.tag = str(element.tag).rpartition("}")[2]  # without its name space
        length = _number(root.findtext(".//EpochLength") or f"{options.epoch_seconds:g}", file.where, "EpochLength")
        stages, events = root.find(".//SleepStages"), root.findall(".//ScoredEvent")
        if stages is not None and len(stages):
            rows: list[Row] = [(k * length, length, (one.text or "").strip()) for k, one in enumerate(stages)]
            return Scoring(rows, f"Profusion: a number each {length:g} s from the beginning", numbers="rk")
        if events:
            return Scoring(_scored(events, file.where), "NSRR: scored events of the type Stages", numbers="rk")
        if annotations := root.findall(".//annotation"):
            return _annotation_list(annotations, file, options)
        if notes := root.findall(".//Instance"):
            return Scoring(_instances(notes, file.where, options), "Luna: instances whose class is a stage")
        if epochs := root.findall(".//stages/epoch"):
            return Scoring(_epochs(epochs, file.where), "Wonambi: epochs with start, end and stage")
        raise UserError(
            f"{file.where}: XML of {root.tag!r} without an element SleepStages, ScoredEvent or annotation is no known "
            "scoring; export the stages as text, or write onset, duration and stage into a table (.csv)"
        )


def _scored(events: list[Xml.Element], where: str) -> list[Row]:
    """Return the stages among NSRR's events: EventType "Stages|Stages", EventConcept "Stage 2 sleep|2"."""
    rows = []
    for event in events:
        kind, concept = (event.findtext("EventType") or "").strip(), (event.findtext("EventConcept") or "").strip()
        if kind.partition("|")[0].strip().casefold() not in ("stages", "stage"):
            continue
        begin, length = (_number(event.findtext(key) or "", where, key) for key in ("Start", "Duration"))
        words, _, number = concept.partition("|")
        rows.append((begin, length, words.strip() if known(words) is not None else number.strip() or words))
    if not rows:
        raise UserError(f"{where}: none of its {len(events)} scored events is of the type Stages")
    return rows


def _annotation_list(found: list[Xml.Element], file: ScoringFile, options: ScoringOptions) -> Scoring:
    """Return the stages of EDFbrowser's list: onset, duration and description of each."""
    texts = [(one.findtext("description") or "").strip() for one in found]
    stages = stages_among(texts, options, f"{file.where}: the description", letters=False)
    wanted = [(one, stage) for one, stage in zip(found, stages, strict=True) if stage is not None]
    if not wanted:
        shown = ", ".join(f"{text!r} ({n})" for text, n in Counter(texts).most_common(6))
        raise UserError(f"{file.where}: no description matches stages.annotation = {options.annotation!r}: {shown}")
    how = f"EDFbrowser: annotations that match {options.annotation!r}"
    lengths = [_number(one.findtext("duration") or "0", file.where, "duration") for one, _ in wanted]
    onsets = [(one.findtext("onset") or "").strip() for one, _ in wanted]
    moments = [moment for onset in onsets if (moment := clock.moment(onset)) is not None]
    if moments and len(moments) < len(onsets):
        raise UserError(f"{file.where}: some onsets are times and some are numbers of seconds")
    if moments:
        own = clock.times(moments, file.where, range(1, len(moments) + 1))
        begins = own.onsets
        scoring = Scoring([], how, own.elapsed, own.clock, own.undecided, remarks=own.remarks, dates=own.dates)
    else:
        begins, scoring = [_number(onset, file.where, "onset") for onset in onsets], Scoring([], how)
    rows = [(begin, length, str(stage)) for begin, length, (_, stage) in zip(begins, lengths, wanted, strict=True)]
    rows = held(rows if moments else sorted(rows), options.epoch_seconds, file.where)
    others = [
        (clock.after(onset, moments[0]) if moments else _number(onset, file.where, "onset"), text, file.where)
        for one, text, stage in zip(found, texts, stages, strict=True)
        if stage is None and (onset := (one.findtext("onset") or "").strip())
    ]
    refuse_unknown(rows, others, options)
    return replace(scoring, rows=rows)


def _instances(found: list[Xml.Element], where: str, options: ScoringOptions) -> list[Row]:
    """Return the stages of Luna's XML: instances with a class, Start and Duration."""
    rows, others = list[Row](), list[tuple[float, str, str]]()
    given = {name.casefold() for name in options.names}
    for one in found:
        name = (one.get("class") or one.findtext("Class") or "").strip()
        begin, length = (_number(one.findtext(key) or "", where, key) for key in ("Start", "Duration"))
        if known(name) is not None or name.casefold() in given:
            rows.append((begin, length, name))
        else:
            others.append((begin, name, where))
    if not rows:
        raise UserError(f"{where}: no instance has a stage as its class; say what yours mean with stages.names")
    refuse_unknown(sorted(rows), others, options)
    return rows


def _epochs(found: list[Xml.Element], where: str) -> list[Row]:
    """Return Wonambi's epochs; what is undefined, nobody scored."""
    rows: list[Row] = []
    for one in found:
        begin, end = (_number(one.findtext(key) or "", where, key) for key in ("epoch_start", "epoch_end"))
        stage = (one.findtext("stage") or "").strip()
        rows.append((begin, end - begin, "?" if stage in ("Undefined", "") else stage))
    return rows


def _number(text: str, where: str, what: str) -> float:
    try:
        return float(text.strip())
    except ValueError:
        raise UserError(f"{where}: {what} {text!r} is no number") from None
