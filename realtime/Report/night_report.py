"""The night report: one HTML file that says what happened in the night, from the session's folder.

Any part may be missing: a session that broke off, without recording, without decodes. What cannot be said is
left out, and the report says that it is. Here the numbers are worked out; `night_report.html` has the words.
"""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from sleep_interpreter.realtime.Report import recorded_signal
from sleep_interpreter.realtime.Report.event_words import words_of
from sleep_interpreter.realtime.Report.key_numbers import key_numbers, length, sleep_statistics
from sleep_interpreter.realtime.Report.recorded_signal import Evoked, Spectrogram, evoked, open_segments, spectrogram
from sleep_interpreter.realtime.Report.session_data import SessionData, Span, load_session
from sleep_interpreter.realtime.Report.summary import (
    closed_gate,
    phase_statistics,
    skip_reasons,
    stage_minutes,
    stage_spans,
)
from sleep_interpreter.realtime.Report.trial_tables import write_trial_tables
from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.core.paths import atomic_write
from sleep_interpreter.utils.metrics.circular import against_random_times
from sleep_interpreter.utils.metrics.exchangeability import exchange
from sleep_interpreter.utils.metrics.statistics import chance_of_guesses, proportion
from sleep_interpreter.utils.plots import evoked as evoked_plots
from sleep_interpreter.utils.plots import session as session_plots
from sleep_interpreter.utils.plots.html_page import render
from sleep_interpreter.utils.signal.phase import PHASE_FROM

logger = logging.getLogger(__name__)

FILE = "report.html"
_TEMPLATE = Path(__file__).with_suffix(".html")
_ROWS = 100
"""Rows of a table of events; log.tsv has them all."""
_NEAR = 45
"""Degrees around the target."""
_LONGEST_INTERVAL = 30
"""Seconds between two cues; beyond it there was a pause."""
_OPERATION_EVENTS = ("gap", "stream", "fault", "no_sound", "resume", "stage_skipped", "command", "volume")
"""Events about faults and what the operator did."""
Section = dict[str, Any]
"""What the template's macro of a section takes."""


def write_night_report(folder: str | Path) -> Path:
    """Write cues.tsv, predictions.csv and report.html into a session's folder; return the report's path.

    `UserError` without a session or whole log.
    """
    folder = Path(folder)
    session = load_session(folder)
    write_trial_tables(session)
    segments, problems = open_segments(session)
    for text in problems:
        logger.warning("%s", text)
        session.missing.append(text)
    # the sleeper has heard what a live session played; a file holds responses to its own cues only
    heard = session.live or session.setting("cues.mode") == "recorded"
    averages = {}
    for name, event in (("cues", "cue"), ("shams", "sham")):
        onsets = [cue["seconds"] for cue in session.cues(event)]
        if heard and onsets and (found := evoked(segments, onsets, _response_end(session))) is not None:
            averages[name] = found
    kind = {True: "simulated recording", False: None, None: "simulated or not: unknown"}[session.simulated]
    subject = session.about.get("subject", {}).get("id") or folder.resolve().parent.name
    html = render(
        _TEMPLATE, session=session, kind=kind, name=f"{subject}, {folder.resolve().name}", about=_about(session),
        key_numbers=key_numbers(session), sleep=sleep_statistics(session),
        warnings=_warnings(session), night=_night(session, spectrogram(segments, session), kind),
        cues=_cues(session, kind), pauses=_pauses(session), phase=_phase(session, kind), heard=heard,
        responses=_responses(averages, _response_end(session), kind), decoding=_decoding(session, kind),
        latencies=_latencies(session, kind), quality=_quality(session, kind), faults=_faults(session),
        origin=_origin(session),
    )  # fmt: skip
    with atomic_write(folder / FILE) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return folder / FILE


def _response_end(session: SessionData) -> float:
    """Return the seconds after a cue's onset up to which responses are averaged: all that the decoder reads."""
    return max(recorded_signal.AFTER, session.card.windows.sleep.end)


def _about(session: SessionData) -> str:
    """Return how long the session was, when, and how it ended."""
    seconds, started = session.end - session.begin, session.started
    when = "" if started is None else f", begun {started:%Y-%m-%d %H:%M} ({started.tzname()})"
    return f"{length(seconds)}{when}; {session.ending}."


def _warnings(session: SessionData) -> list[str]:
    notices = [e["detail"] for e in session.select("notice")]
    warnings = [detail["text"] for detail in notices if detail.get("level") == "warning"]
    if not session.live and session.setting("cues.mode") == "recorded":
        warnings.append("this was a replay of a recording with its own cues")
    elif not session.live:
        warnings.append("this was a replay: the sleeper of the recording did not hear the cues of this session")
    return list(dict.fromkeys(warnings))


def _night(session: SessionData, power: Spectrogram | None, kind: str | None) -> Section:
    """Stages, cues, spectrogram, and when cueing was on."""
    spans = stage_spans(session.events)
    onsets = {name: [c["seconds"] for c in session.cues(name)] for name in ("cue", "sham")}
    onsets = {name: seconds for name, seconds in onsets.items() if seconds or name == "cue"}
    gate, cueing = session.states("gate", "open"), session.states("cueing", "on")
    limits, states = (session.begin, session.end), {"gate open": gate, "cueing": cueing}
    minutes = stage_minutes(spans, session.end - session.begin)
    total = (session.end - session.begin) / 60
    return {
        "svg": session_plots.overview(spans, onsets, power, states, session.outages(), limits, kind),
        "minutes": ", ".join(f"{s} {m:.0f} min" for s, m in minutes.items()),
        "rows": [(s, float(m), f"{m / total:.0%}" if total else "") for s, m in minutes.items()],
        "spectrogram": power is not None,
        "gate": _minutes(gate),
        "cueing": _minutes(cueing),
    }


def _minutes(spans: list[Span]) -> float:
    return sum(end - begin for begin, end in spans) / 60


def _cues(session: SessionData, kind: str | None) -> Section | str:
    """How often which item was cued, in which group and stage, and at what intervals."""
    cued, shams = session.cues(), session.cues("sham")
    if not cued and not shams:
        skipped = len(session.select("cue_skipped", "cue_cancelled"))
        reasons = skip_reasons(session.events)
        told = [f"{n} skipped: {reason}." for reason, n in reasons.items()]
        if session.silent:
            told.insert(
                0, f"{len(session.silent)} were sent to the sound device, or would have been, and did not sound."
            )
        if isinstance(gate := session.setting("gate"), dict) and (opens := closed_gate(reasons, gate)) is not None:
            told.append(f"{opens[0].upper()}{opens[1:]}.")
        return " ".join([f"No cue was played; {skipped} were skipped or taken back.", *told])
    names = session.card.item_names
    counts = Counter((c["item"], c["stage"]) for c in cued)
    by_stage = {s: [counts[item, s] for item in names] for s in (*STAGES, "unknown")}
    used = [s for s, numbers in by_stage.items() if any(numbers)]
    sham = Counter(c["item"] for c in shams)
    skips = Counter(e["detail"]["item"] for e in session.select("cue_skipped"))
    cancels = Counter(e["detail"]["item"] for e in session.select("cue_cancelled"))
    groups = {c["item"]: c.get("group") for c in (*cued, *shams)}
    items: list[tuple] = [
        (item, str(groups.get(item, "")), sum(numbers[k] for numbers in by_stage.values()),
         *(by_stage[s][k] for s in used), sham[item], skips[item], cancels[item])
        for k, item in enumerate(names)
    ]  # fmt: skip
    items.append(("all", "", *(sum(row[k] for row in items) for k in range(2, len(items[0])))))
    turns = Counter((c.get("group"), c["stage"]) for c in cued)
    return {
        "svg": session_plots.cue_counts(names, by_stage, [sham[item] for item in names], kind),
        "cues": len(cued),
        "shams": len(shams),
        "skipped": ", ".join(f"{n} ({reason})" for reason, n in skip_reasons(session.events).items()),
        "intervals": _intervals([c["seconds"] for c in (*cued, *shams)], kind),
        "used": used,
        "groups": [
            (f"group {g}", *(turns[g, s] for s in used), sum(turns[g, s] for s in used))
            for g in sorted({g for g, _ in turns}, key=str)
        ],
        "items": items,
    }


def _intervals(onsets: list[float], kind: str | None) -> Section | None:
    intervals = np.diff(sorted(onsets))
    intervals = intervals[intervals < _LONGEST_INTERVAL]
    if not len(intervals):
        return None
    low, median, high = np.percentile(intervals, [5, 50, 95])
    svg, shortest = session_plots.intervals(intervals, kind), intervals.min()
    return {"svg": svg, "low": low, "median": median, "high": high, "shortest": shortest}


def _pauses(session: SessionData) -> Section | None:
    """How often and how long cueing paused, and why."""
    lengths: dict[str, list[float]] = {}
    for begin, end, reason in session.pauses():
        lengths.setdefault(reason, []).append(end - begin)
    rows = [
        (reason, len(times), sum(times) / 60, float(np.median(times)))
        for reason, times in sorted(lengths.items(), key=lambda entry: -sum(entry[1]))
    ]
    arousals = Counter(e["detail"]["reason"] for e in session.select("arousal"))
    last = session.pauses()[-1:]
    unended = next((f"{reason} ({length(end - begin)})" for begin, end, reason in last if end >= session.end), None)
    return {"rows": rows[:_ROWS], "arousals": arousals.most_common(), "unended": unended} if rows else None


def _phase(session: SessionData, kind: str | None) -> Section | None:
    """Which phase cues met, against the target."""
    target = session.setting("cues.lock.target_degrees", 0.0)
    figures, rows = [], []
    for name, every in session.phases().items():
        degrees, at_random = every[:, 0], every[:, 1:]
        mean, length, spread = phase_statistics(degrees)
        found = against_random_times(np.radians(degrees), np.radians(at_random)) or {}
        expected = [] if found.get("p") is None else [f"{found['random_length']:.2f}", f"{found['p']:.2g}"]
        near = proportion(int(_near(degrees, target).sum()), len(degrees), 2 * _NEAR / 360)
        share = f"{near['accuracy']:.0%} ({near['low']:.0%} to {near['high']:.0%})"
        usual = at_random[np.isfinite(at_random)]
        usually = f"{_near(usual, target).mean():.0%}" if len(usual) else "-"
        resultant = (f"{length:.2f}", *(expected or ("-", "-")))
        rows.append((name, len(degrees), f"{mean:.0f}°", *resultant, f"{spread:.0f}°", share, usually))
        title = name.capitalize()
        svg = evoked_plots.rose(degrees, None if "not locked" in name else target, title, kind, usual)
        text = f"Phases of {len(degrees)} {name}: mean {mean:.0f}°, circular SD {spread:.0f}°."
        figures.append((svg, text))
    if not rows:
        return None
    way = {"phase_from": PHASE_FROM[session.phase_from], "whole": session.phase_from == "whole"}
    return {"figures": figures, "rows": rows, "target": f"{target:g}", "near": _NEAR, **way}


def _near(degrees: np.ndarray, target: float) -> np.ndarray:
    """Tell which phases lie within `_NEAR` degrees of a target."""
    return np.abs((degrees - target + 180) % 360 - 180) <= _NEAR


def _responses(averages: dict[str, Evoked], after: float, kind: str | None) -> Section | None:
    """Mean responses to cues and shams."""
    if not averages:
        return None
    averaged = {name: r for name, r in averages.items() if r.n}
    names = next((r.names for r in averaged.values()), ("",))
    channel = next((n for n in ("Cz", "Fz", "EEG Cz", "EEG Fz") if n in names), names[0])
    return {
        "rows": [(name, r.n, r.rejected, r.missing) for name, r in averages.items()],
        "window": (f"{recorded_signal.BEFORE:g}", f"{after:g}"),
        "limits": (f"{recorded_signal.MOST_BEYOND:.0%}", f"{recorded_signal.MOST_PEAK_TO_PEAK:g}"),
        "channel": channel,
        "counts": " and ".join(f"{r.n} {name}" for name, r in averaged.items()),
        "mean": evoked_plots.evoked(averaged, channel, kind) if averaged else None,
        "maps": evoked_plots.topographies(averaged, kind) if len(names) >= 8 else None,
    }


def _decoding(session: SessionData, kind: str | None) -> Section:
    """What was decoded after which cue."""
    pairs, shams = session.decodes(), session.decodes(sham=True)
    judged, rows = session.has_responses, []
    names = session.card.item_names
    for name, found in (("cues", pairs), ("shams (nothing was played)", shams)):
        if len(found):
            chance = chance_of_guesses(found[:, 0], found[:, 1], len(names))
            hits = proportion(int((found[:, 0] == found[:, 1]).sum()), len(found), chance)
            share, interval = f"{hits['accuracy']:.1%}", f"{hits['low']:.1%} to {hits['high']:.1%}"
            p = f"{hits['p']:.2g}" if not exchange(found[:, 0]).clustered else "none: items cued in blocks"
            rows.append((name, hits["n"], hits["hits"], share, interval, f"{chance:.1%}", p))
    return {
        "decodes": len(pairs),
        "shams": len(shams),
        "rows": rows,
        "items": len(names),
        "svg": evoked_plots.confusion(pairs, names, kind) if judged and len(pairs) else None,
        "flagged": sum(bool(e["detail"].get("flags")) for e in session.select("decode")),
        "failed": Counter(e["detail"]["reason"] for e in session.select("decode_failed")).most_common(20),
    }


def _latencies(session: SessionData, kind: str | None) -> Section | None:
    """Distributions of what was timed."""
    found = session.latencies()
    if not found:
        return None
    rows = [
        (name, len(v), *(f"{x:.1f}" for x in (*np.percentile(v, [50, 95, 99]), v.max(), v.std())))
        for name, v in found.items()
    ]
    medians = "; ".join(f"{row[0]}: median {row[2]} ms" for row in rows)
    return {"svg": session_plots.latencies(found, kind), "medians": medians, "rows": rows}


def _quality(session: SessionData, kind: str | None) -> Section | None:
    """When which channel had a bad signal."""
    bad = session.bad_channels()
    if not bad:
        return None
    length = max(1e-9, session.end - session.begin)
    rows = []
    for name, spans in sorted(bad.items(), key=lambda entry: -sum(e - b for b, e, _ in entry[1])):
        seconds = sum(end - begin for begin, end, _ in spans)
        counts = Counter(session_plots.kind_of(reason) for *_, reason in spans)
        reasons = ", ".join(f"{r} ({n})" for r, n in counts.most_common(4))
        rows.append((name, len(spans), seconds / 60, f"{seconds / length:.1%}", reasons))
    svg = session_plots.quality(bad, (session.begin, session.end), session.outages(), kind)
    return {"svg": svg, "channels": len(bad), "rows": rows[:_ROWS]}


def _faults(session: SessionData) -> Section:
    """What went wrong, and what the operator did."""
    events, gaps = session.select(*_OPERATION_EVENTS), session.select("gap")
    lost = sum(e["detail"].get("seconds", 0) for e in gaps)
    counts = [("samples lost", f"{lost:.2f} s in {len(gaps)} gaps")]
    found = Counter(_label(e) for e in events)
    counts += [(name, str(number)) for name, number in found.most_common() if name != "gap"]
    rows = [
        (*([session.local_time(e) or "-"] if session.live else []), _clock(e["seconds"] - session.begin),
         e["event"].replace("_", " "), words_of(e))
        for e in events[:_ROWS]
    ]  # fmt: skip
    return {"counts": counts, "events": rows, "more": len(events) - len(rows)}


def _label(event: dict) -> str:
    """Return how an event counts among faults and commands."""
    kind, detail = event["event"], event["detail"]
    if kind == "stream":
        return f"stream {detail.get('state')}"
    if kind == "fault":
        return f"{detail.get('part')} {detail.get('state')}"
    return f"command {detail.get('command')}" if kind == "command" else kind.replace("_", " ")


def _clock(seconds: float) -> str:
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _origin(session: SessionData) -> Section:
    """Where the numbers come from."""
    about = session.about
    begun = session.started
    rows = [] if begun is None else [("started", f"{begun:%Y-%m-%d %H:%M:%S} ({begun.tzname()})")]
    rows += [(key, str(about[key])) for key in ("ending", "seed", "git") if about.get(key) is not None]
    rows += [(k, str(v)) for k, v in about.get("recording", {}).items() if isinstance(v, str | int | float)]
    rows += [(f"version of {k}", str(v)) for k, v in about.get("versions", {}).items() if v]
    path = session.folder / "settings.yaml"
    settings = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
    return {"rows": rows, "notes": about.get("subject", {}).get("notes"), "settings": settings}
