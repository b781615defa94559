"""The night report: one HTML file that says what happened in the night, from the session's folder.

Any part may be missing: a session that broke off, without recording, without decodes. What cannot be said is
left out, and the report says that it is.
"""

import logging
from collections import Counter
from pathlib import Path

import numpy as np

from sleep_interpreter.realtime.Report.recorded_signal import (
    AFTER,
    BEFORE,
    MOST_BEYOND,
    MOST_PEAK_TO_PEAK,
    Evoked,
    Spectrogram,
    evoked,
    open_segments,
    spectrogram,
)
from sleep_interpreter.realtime.Report.session_data import SessionData, Span, load_session
from sleep_interpreter.realtime.Report.summary import CHANCE, phase_statistics, stage_minutes
from sleep_interpreter.utils.core.constants import ITEMS, STAGES
from sleep_interpreter.utils.core.paths import writing
from sleep_interpreter.utils.metrics.statistics import proportion
from sleep_interpreter.utils.plots import evoked as evoked_plots
from sleep_interpreter.utils.plots import session as session_plots
from sleep_interpreter.utils.plots.html_page import Block, Bullets, Details, Figure, Paragraph, Table, page

logger = logging.getLogger(__name__)

FILE = "report.html"
_ROWS = 100
"""Rows of a table of events; log.tsv has them all."""
_NEAR = 45
"""Degrees around the target."""
_LONGEST_INTERVAL = 30
"""Seconds between two cues; beyond it there was a pause."""
_OPERATION_EVENTS = ("gap", "stream", "fault", "resume", "stage_skipped", "command", "volume")
"""Events about faults and what the operator did."""


def write_night_report(folder: str | Path) -> Path:
    """Write report.html into a session's folder and return its path.

    Raises
    ------
    UserError
        There is no session, or its log is damaged.
    """
    folder = Path(folder)
    session = load_session(folder)
    segments, problems = open_segments(session)
    for text in problems:
        logger.warning("%s", text)
        session.missing.append(text)
    power = spectrogram(segments, session)
    # the sleeper has heard what a live session played; a file holds responses to its own cues only
    heard = session.live or session.setting("cues.mode") == "recorded"
    responses = {}
    for name, event in (("cues", "cue"), ("shams", "sham")):
        onsets = [cue["seconds"] for cue in session.cues(event)]
        found = evoked(segments, onsets) if heard and onsets else None
        if found is not None:
            responses[name] = found
    kind = {True: "simulated recording", False: None, None: "simulated or not: unknown"}[session.simulated]
    sections = [
        ("The night", _night(session, power, kind)),
        ("Cues", _cues(session, kind)),
        ("Pauses", _pauses(session)),
        ("Phase of the slow oscillation at cues", _phase(session, kind)),
        ("Evoked responses", _responses(responses, heard, kind)),
        ("Decoding", _decoding(session, kind)),
        ("Latencies", _latencies(session, kind)),
        ("Signal quality", _quality(session, kind)),
        ("Gaps, faults and commands", _faults(session)),
        ("Settings and origin", _origin(session)),
    ]
    subject = session.about.get("subject", {}).get("id") or folder.resolve().parent.name
    html = page(f"{subject}, {folder.resolve().name}", kind, _head(session, kind), sections)
    with writing(folder / FILE) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return folder / FILE


def _head(session: SessionData, kind: str | None) -> list[Block]:
    """Return what is said above the first section."""
    started, length = session.started, session.end - session.begin
    when = "" if started is None else f", begun {started:%Y-%m-%d %H:%M} ({started.tzname()})"
    style = "bad" if session.ending.startswith(("broken", "error")) else None
    blocks: list[Block] = [Paragraph(f"{_duration(length)}{when}; {session.ending}.", style)]
    if kind is not None:
        text = {
            "simulated recording": "This recording is simulated: nothing in this report says anything about "
            "people.",
        }.get(kind, "session.json does not say whether this recording is simulated.")
        blocks.append(Paragraph(text, "note"))
    notices = [e["detail"] for e in session.select("notice")]
    warnings = [detail["text"] for detail in notices if detail.get("level") == "warning"]
    if not session.live:
        warnings.append(
            "this was a replay: the sleeper of the recording did not hear the cues of this session"
            if session.setting("cues.mode") != "recorded"
            else "this was a replay of a recording with its own cues"
        )
    if warnings or session.missing:
        blocks.append(Bullets([*dict.fromkeys(warnings), *session.missing]))
    return blocks


def _night(session: SessionData, power: Spectrogram | None, kind: str | None) -> list[Block]:
    """Stages, cues, spectrogram, and when cueing was on."""
    spans, outages = session.stage_spans, session.outages()
    onsets = {name: [c["seconds"] for c in session.cues(name)] for name in ("cue", "sham")}
    onsets = {name: seconds for name, seconds in onsets.items() if seconds or name == "cue"}
    gate, cueing = session.states("gate", "open"), session.states("cueing", "on")
    limits = (session.begin, session.end)
    states = {"gate open": gate, "cueing": cueing}
    svg = session_plots.overview(spans, onsets, power, states, outages, limits, kind)
    minutes = stage_minutes(spans, limits[1] - limits[0])
    total = (limits[1] - limits[0]) / 60
    rows = [(s, float(m), f"{m / total:.0%}" if total else "") for s, m in minutes.items()]
    welch = "" if power is None else "spectrogram of the staging EEG (Welch, 4 s windows in each 30 s), "
    caption = (
        f"Stage after smoothing and cues (top), probabilities of the stages, {welch}and when gate and cueing "
        "were on."
    )
    if outages:
        caption += " Shaded: no session ran."
    description = ", ".join(f"{s} {m:.0f} min" for s, m in minutes.items())
    times = f"gate open {_minutes(gate):.1f} min, cueing on {_minutes(cueing):.1f} min"
    return [
        Figure(svg, f"The night over time: {description}.", caption),
        Table(("Stage", "min", "share"), rows, f"The stager's own, smoothed; {times}."),
    ]


def _cues(session: SessionData, kind: str | None) -> list[Block]:
    """How often which item was cued, in which group and stage, and at what intervals."""
    cued, shams = session.cues(), session.cues("sham")
    if not cued and not shams:
        skipped = len(session.select("cue_skipped", "cue_cancelled"))
        return [Paragraph(f"No cue was played; {skipped} were skipped or taken back.")]
    counts = Counter((c["item"], c["stage"]) for c in cued)
    by_stage = {s: [counts[item, s] for item in ITEMS] for s in (*STAGES, "unknown")}
    used = [s for s, numbers in by_stage.items() if any(numbers)]
    sham = Counter(c["item"] for c in shams)
    figure = Figure(
        session_plots.cue_counts(ITEMS, by_stage, [sham[item] for item in ITEMS], kind),
        f"Cues an item: {len(cued)} cues and {len(shams)} shams; the table below has the numbers.",
    )
    blocks: list[Block] = [figure]
    intervals = np.diff(sorted(c["seconds"] for c in (*cued, *shams)))
    intervals = intervals[intervals < _LONGEST_INTERVAL]
    if len(intervals):
        low, middle, high = np.percentile(intervals, [5, 50, 95])
        figure = Figure(
            session_plots.intervals(intervals, kind),
            f"Intervals between cues: median {middle:.1f} s, 5 to 95 % {low:.1f} to {high:.1f} s.",
            f"Onset to onset, shams counted: median {middle:.2f} s, 5 to 95 % {low:.2f} to {high:.2f} s, "
            f"shortest {intervals.min():.2f} s.",
            narrow=True,
        )
        blocks.append(figure)
    turns = Counter((c.get("group"), c["stage"]) for c in cued)
    rows = [
        (f"group {g}", *(turns[g, s] for s in used), sum(turns[g, s] for s in used))
        for g in sorted({g for g, _ in turns}, key=str)
    ]
    by_group = Table(("Group", *used, "all"), rows, "Cues by group.")
    return [*blocks, by_group, _cues_by_item(session, by_stage, used)]


def _cues_by_item(session: SessionData, by_stage: dict[str, list[int]], used: list[str]) -> Table:
    """Return the table of cues by item, in the stages that were used."""
    cued, shams = session.cues(), session.cues("sham")
    sham = Counter(c["item"] for c in shams)
    groups = {c["item"]: c.get("group") for c in (*cued, *shams)}
    skipped = Counter(e["detail"]["item"] for e in session.select("cue_skipped"))
    cancelled = Counter(e["detail"]["item"] for e in session.select("cue_cancelled"))
    rows: list[tuple] = [
        (item, str(groups.get(item, "")), sum(numbers[k] for numbers in by_stage.values()),
         *(by_stage[s][k] for s in used), sham[item], skipped[item], cancelled[item])
        for k, item in enumerate(ITEMS)
    ]  # fmt: skip
    rows.append(("all", "", *(sum(row[k] for row in rows) for k in range(2, len(rows[0])))))
    caption = "Cues that sounded, by the stage at their decision; shams are silent and logged."
    if session.unheard:
        silent = len(session.unheard)
        caption += f" {silent} more did not sound (device gone or late) and are counted nowhere here."
    return Table(("Item", "group", "cues", *used, "shams", "skipped", "taken back"), rows, caption)


def _pauses(session: SessionData) -> list[Block]:
    """How often and how long cueing paused, and why."""
    lengths: dict[str, list[float]] = {}
    for begin, end, reason in session.pauses():
        lengths.setdefault(reason, []).append(end - begin)
    if not lengths:
        return [Paragraph("Cueing never paused after it had begun, or never began.")]
    rows = [
        (reason, len(times), sum(times) / 60, float(np.median(times)))
        for reason, times in sorted(lengths.items(), key=lambda entry: -sum(entry[1]))
    ]
    caption = "A pause lasts until cueing is on again; meanwhile another reason may have taken over."
    header = ("Reason at its beginning", "pauses", "min", "median s")
    blocks: list[Block] = [Table(header, rows[:_ROWS], caption)]
    arousals = Counter(e["detail"]["reason"] for e in session.select("arousal"))
    if arousals:
        blocks.append(Table(("Arousal", "times"), arousals.most_common(), "While the gate was open."))
    return blocks


def _phase(session: SessionData, kind: str | None) -> list[Block]:
    """Which phase cues met, against the target."""
    found = session.phases()
    if not found:
        return [Paragraph("The phase of no cue was measured.")]
    target = session.setting("cues.lock.target_degrees", 0.0)
    blocks: list[Block] = []
    rows = []
    for name, degrees in found.items():
        mean, length, spread = phase_statistics(degrees)
        off = np.abs(np.degrees(np.angle(np.exp(1j * np.radians(degrees - target)))))
        near = proportion(int((off <= _NEAR).sum()), len(degrees), 2 * _NEAR / 360)
        share = f"{near['accuracy']:.0%} ({near['low']:.0%} to {near['high']:.0%})"
        rows.append((f"cues {name}", len(degrees), f"{mean:.0f}°", f"{length:.2f}", f"{spread:.0f}°", share))
        svg = evoked_plots.rose(degrees, target if name == "locked" else None, f"Cues {name}", kind)
        text = f"Phases of {len(degrees)} cues {name}: mean {mean:.0f}°, circular SD {spread:.0f}°."
        blocks.append(Figure(svg, text, narrow=True))
    caption = (
        f"0° is the peak of the up-state, the target {target:g}°. Measured afterwards on both sides of the "
        f"onset (zero phase, 0.3 to 2 Hz, Hilbert). {2 * _NEAR / 360:.0%} of cues at random would come "
        f"within {_NEAR}° of the target."
    )
    header = ("", "n", "mean", "length R", "circular SD", f"within {_NEAR}° of {target:g}° (95 %)")
    return [*blocks, Table(header, rows, caption)]


def _responses(found: dict[str, Evoked], heard: bool, kind: str | None) -> list[Block]:
    """Mean responses to cues and shams."""
    if not heard:
        return [Paragraph("The sleeper of this recording did not hear the cues: there is no response.")]
    if not found:
        return [Paragraph("No response was recorded: no cue, no recording, or no EEG channel by name.")]
    rule = (
        f"{BEFORE:g} s before to {AFTER:g} s after the onset, baseline the {BEFORE:g} s before it, means of "
        f"10 ms, no filter. Left out: samples that were lost or are not finite, and responses in which more "
        f"than {MOST_BEYOND:.0%} of the channels exceed {MOST_PEAK_TO_PEAK:g} µV from peak to peak."
    )
    rows = [(name, r.n, r.rejected, r.missing) for name, r in found.items()]
    blocks: list[Block] = [Table(("", "averaged", "left out", "not recorded"), rows, rule)]
    averaged = {name: r for name, r in found.items() if r.n}
    if not averaged:
        return blocks
    names = next(iter(averaged.values())).names
    channel = next((n for n in ("Cz", "Fz", "EEG Cz", "EEG Fz") if n in names), names[0])
    counts = " and ".join(f"{r.n} {n}" for n, r in averaged.items())
    blocks.append(
        Figure(
            evoked_plots.evoked(averaged, channel, kind),
            f"Mean response at {channel} to {counts}.",
            "Band: 95 % interval of the mean over cues (1.96 standard errors).",
        )
    )
    if len(names) >= 8:
        blocks.append(
            Figure(
                evoked_plots.topographies(averaged, kind),
                "Maps of the mean response in three windows after the onset.",
                "Windows chosen beforehand; all maps on one scale, reference as recorded.",
            )
        )
    return blocks


def _decoding(session: SessionData, kind: str | None) -> list[Block]:
    """What was decoded after which cue."""
    reasons = Counter(e["detail"]["reason"] for e in session.select("decode_failed"))
    failed = [Table(("Decodes that failed", "times"), reasons.most_common(20))] if reasons else []
    pairs, shams = session.decodes(), session.decodes(sham=True)
    if not len(pairs) and not len(shams):
        return [Paragraph("Nothing was decoded."), *failed]
    if not session.has_responses:
        text = (
            f"{len(pairs)} decodes. They can be neither right nor wrong: the recording holds no response "
            "to the cues of this session."
        )
        return [Paragraph(text), *failed]
    rows = []
    for name, found in (("cues", pairs), ("shams (nothing was played)", shams)):
        if len(found):
            hits = proportion(int((found[:, 0] == found[:, 1]).sum()), len(found), CHANCE)
            share, interval = f"{hits['accuracy']:.1%}", f"{hits['low']:.1%} to {hits['high']:.1%}"
            rows.append((name, hits["n"], hits["hits"], share, interval, f"{hits['p']:.2g}"))
    caption = (
        f"Chance {CHANCE:.1%} (1 of {len(ITEMS)}); Wilson's 95 % interval; p one-sided, binomial, cues taken "
        "as independent of each other."
    )
    if kind is not None:
        caption += f" {kind[0].upper()}{kind[1:]}."
    blocks: list[Block] = [Table(("Top-1", "n", "right", "share", "95 %", "p"), rows, caption)]
    if len(pairs):
        svg = evoked_plots.confusion(pairs, ITEMS, CHANCE, kind)
        text = f"Decoded against cued items, {len(pairs)} decodes; the diagonal is right."
        blocks.append(Figure(svg, text))
    flagged = sum(bool(e["detail"].get("flags")) for e in session.select("decode"))
    if flagged:
        blocks.append(Paragraph(f"{flagged} decodes had a channel with a bad signal (flags in the log)."))
    return [*blocks, *failed]


def _latencies(session: SessionData, kind: str | None) -> list[Block]:
    """Distributions of what was timed."""
    found = session.latencies()
    if not found:
        return [Paragraph("Nothing was timed.")]
    rows = [
        (name, len(v), *(f"{x:.1f}" for x in (*np.percentile(v, [50, 95, 99]), v.max(), v.std())))
        for name, v in found.items()
    ]
    medians = "; ".join(f"{row[0]}: median {row[2]} ms" for row in rows)
    return [
        Figure(session_plots.latencies(found, kind), f"Latencies. {medians}."),
        Table(("ms", "n", "median", "95 %", "99 %", "largest", "SD"), rows),
    ]


def _quality(session: SessionData, kind: str | None) -> list[Block]:
    """When which channel had a bad signal."""
    bad = session.bad_channels()
    if not bad:
        return [Paragraph("No channel in use was found bad.")]
    length = max(1e-9, session.end - session.begin)
    rows = []
    for name, spans in sorted(bad.items(), key=lambda entry: -sum(e - b for b, e, _ in entry[1])):
        seconds = sum(end - begin for begin, end, _ in spans)
        counts = Counter(session_plots.kind_of(reason) for *_, reason in spans)
        reasons = ", ".join(f"{r} ({n})" for r, n in counts.most_common(4))
        rows.append((name, len(spans), seconds / 60, f"{seconds / length:.1%}", reasons))
    svg = session_plots.quality(bad, (session.begin, session.end), session.outages(), kind)
    return [
        Figure(svg, f"{len(bad)} channels were bad at some time; the table has the numbers."),
        Table(("Channel", "times", "min", "of the session", "reasons"), rows[:_ROWS]),
    ]


def _faults(session: SessionData) -> list[Block]:
    """What went wrong, and what the operator did."""
    events = session.select(*_OPERATION_EVENTS)
    counts = Counter(_label(e) for e in events)
    gaps = session.select("gap")
    lost = sum(e["detail"].get("seconds", 0) for e in gaps)
    rows = [("samples lost", f"{lost:.2f} s in {len(gaps)} gaps")]
    rows += [(name, str(number)) for name, number in counts.most_common() if name != "gap"]
    blocks: list[Block] = [Table(("What", "how much"), rows)]
    if events:
        more = "" if len(events) <= _ROWS else f"; {len(events) - _ROWS} more are in log.jsonl"
        listed = [(_clock(e["seconds"] - session.begin), e["event"], _detail(e)) for e in events[:_ROWS]]
        blocks.append(Table(("Time", "event", "what"), listed, f"Since the session began{more}."))
    return blocks


def _origin(session: SessionData) -> list[Block]:
    """Where the numbers come from."""
    about = session.about
    keys = ("started", "ending", "seed", "git")
    rows = [(key, str(about[key])) for key in keys if about.get(key) is not None]
    rows += [(k, str(v)) for k, v in about.get("recording", {}).items() if isinstance(v, str | int | float)]
    rows += [(f"version of {k}", str(v)) for k, v in about.get("versions", {}).items() if v]
    blocks: list[Block] = [Table(("", ""), rows)] if rows else []
    notes = about.get("subject", {}).get("notes")
    if notes:
        blocks.append(Paragraph(f"Notes: {notes}"))
    path = session.folder / "settings.yaml"
    if path.is_file():
        blocks.append(Details("All settings", path.read_text(encoding="utf-8", errors="replace")))
    return blocks or [Paragraph("Nothing says it.")]


def _label(event: dict) -> str:
    """Return how an event counts among faults and commands."""
    kind, detail = event["event"], event["detail"]
    if kind == "stream":
        return f"stream {detail.get('state')}"
    if kind == "fault":
        return f"{detail.get('part')} {detail.get('state')}"
    return f"command {detail.get('command')}" if kind == "command" else kind


def _detail(event: dict) -> str:
    return ", ".join(
        f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}"
        for k, v in event["detail"].items()
        if v not in (None, {}, "")
    )


def _minutes(spans: list[Span]) -> float:
    return sum(end - begin for begin, end in spans) / 60


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{seconds / 60:.1f} min"


def _clock(seconds: float) -> str:
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
