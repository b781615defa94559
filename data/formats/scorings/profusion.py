"""XML: Compumedics Profusion, NSRR, Wonambi, Luna's and EDFbrowser's lists of annotations."""

import xml.etree.ElementTree as Xml

from sleep_interpreter.data.formats.scorings import clock
from sleep_interpreter.data.formats.scorings.scoring import Row, Scoring, ScoringFile, ScoringOptions, held
from sleep_interpreter.data.formats.scorings.stage_codes import known
from sleep_interpreter.data.formats.scorings.table import stage_of_text
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
            return Scoring(_instances(notes, file.where), "Luna: instances whose class is a stage")
        if epochs := root.findall(".//stages/epoch"):
            return Scoring(_epochs(epochs, file.where), "Wonambi: epochs with start, end and stage")
        raise UserError(f"{file.where}: no element SleepStages, ScoredEvent or annotation, so it is no known scoring")


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
    rows: list[Row] = []
    times: list[tuple[clock.Moment, float, str]] = []
    for one in found:
        text = (one.findtext("description") or "").strip()
        stage = stage_of_text(options.annotation, text)
        if stage is None:
            continue
        onset, length = (one.findtext("onset") or "").strip(), (one.findtext("duration") or "").strip()
        last = _number(length, file.where, "duration") if length else 0.0
        moment = clock.moment(onset)
        if moment is not None:
            times.append((moment, last, stage))
        else:
            rows.append((_number(onset, file.where, "onset"), last, stage))
    if times and rows:
        raise UserError(f"{file.where}: some onsets are times and some are numbers of seconds")
    if not times and not rows:
        raise UserError(f"{file.where}: no description matches stages.annotation = {options.annotation!r}")
    how = f"EDFbrowser: annotations that match {options.annotation!r}"
    if rows:
        return Scoring(held(sorted(rows), options.epoch_seconds), how)
    own = clock.times([moment for moment, _, _ in times], file.where, range(1, len(times) + 1))
    rows = [(onset, last, stage) for onset, (_, last, stage) in zip(own.onsets, times, strict=True)]
    both = own.elapsed is not None and own.clock is not None
    return Scoring(held(rows, options.epoch_seconds), how, own.elapsed, own.clock, both, remarks=own.remarks)


def _instances(found: list[Xml.Element], where: str) -> list[Row]:
    """Return the stages of Luna's XML: instances with a class, Start and Duration."""
    rows = []
    for one in found:
        name = (one.get("class") or one.findtext("Class") or "").strip()
        if known(name) is not None:
            begin, length = (_number(one.findtext(key) or "", where, key) for key in ("Start", "Duration"))
            rows.append((begin, length, name))
    if not rows:
        raise UserError(f"{where}: no instance has a stage as its class")
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
