"""The sections of the night report, each from a `SessionData` to HTML."""

from collections import Counter

import numpy as np

from sleep_interpreter.realtime.Report.recorded_signal import AFTER, BEFORE, LARGEST, SHARE
from sleep_interpreter.realtime.Report.summary import CHANCE
from sleep_interpreter.utils.core.constants import ITEMS, STAGES
from sleep_interpreter.utils.metrics.statistics import proportion
from sleep_interpreter.utils.plots import evoked, html_page
from sleep_interpreter.utils.plots import session as plots_session

_ROWS = 100
"""Rows of a table of events; log.tsv has them all."""
_WITHIN = 45
"""Degrees around the target."""


def subject(session):
    """Return whose session it is."""
    return session.about.get("subject", {}).get("id") or session.folder.resolve().parent.name


def head(session, kind):
    """Return what is said above the first section."""
    began, length = session.started, session.ends - session.begins
    when = "" if began is None else f", begun {began:%Y-%m-%d %H:%M} ({began.tzname()})"
    parts = [html_page.paragraph(f"{_long(length)}{when}; {session.ending}.", _state(session))]
    if kind is not None:
        text = {
            "simulated recording": "This recording is simulated: nothing in this report says anything about "
            "people.",
        }.get(kind, "session.json does not say whether this recording is simulated.")
        parts.append(html_page.paragraph(text, "note"))
    warnings = [e["detail"]["text"] for e in session.of("notice") if e["detail"].get("level") == "warning"]
    if not session.live:
        warnings.append(
            "this was a replay: the sleeper of the recording did not hear the cues of this session"
            if session.setting("cues.mode") != "recorded"
            else "this was a replay of a recording with its own cues"
        )
    if warnings or session.lacking:
        parts.append(html_page.bullets([*dict.fromkeys(warnings), *session.lacking]))
    return parts


def night(session, spectrum, kind):
    """Stages, cues, spectrogram, and when cueing was on."""
    spans = session.spans
    marks = {name: [c["seconds"] for c in session.cues(name)] for name in ("cue", "sham")}
    marks = {name: seconds for name, seconds in marks.items() if seconds or name == "cue"}
    gate, on = session.states("gate", "open"), session.states("cueing", "on")
    limits = (session.begins, session.ends)
    svg = plots_session.overview(
        spans, marks, spectrum, {"gate open": _plain(gate), "cueing": _plain(on)}, session.outages(), limits,
        kind,
    )  # fmt: skip
    minutes = dict.fromkeys((*STAGES, "unknown"), 0.0)
    for _, duration, stage, _ in spans:
        minutes[stage] += duration / 60
    total = (limits[1] - limits[0]) / 60
    minutes["unknown"] += max(0.0, total - sum(minutes.values()))
    rows = [(s, float(m), f"{m / total:.0%}" if total else "") for s, m in minutes.items()]
    caption = (
        "Stage after smoothing and cues (top), probabilities of the stages, spectrogram of the staging EEG "
        "(Welch, 4 s windows in each 30 s), and when gate and cueing were on."
    )
    if session.outages():
        caption += " Shaded: no session ran."
    if spectrum is None:
        caption = caption.replace("spectrogram of the staging EEG (Welch, 4 s windows in each 30 s), ", "")
    said = ", ".join(f"{s} {m:.0f} min" for s, m in minutes.items())
    return html_page.figure(svg, f"The night over time: {said}.", caption) + html_page.table(
        ("Stage", "min", "share"),
        rows,
        f"The stager's own, smoothed; gate open {_minutes(gate):.1f} min, cueing on {_minutes(on):.1f} min.",
    )


def cues(session, kind):
    """How often which item was cued, in which group and stage, and at what intervals."""
    cued, shams = session.cues(), session.cues("sham")
    if not cued and not shams:
        skipped = len(session.of("cue_skipped", "cue_cancelled"))
        return html_page.paragraph(f"No cue was played; {skipped} were skipped or taken back.")
    names = [*STAGES, "unknown"]
    counts = Counter((c["item"], c["stage"]) for c in cued)
    by_stage = {s: [counts[item, s] for item in ITEMS] for s in names}
    sham = Counter(c["item"] for c in shams)
    used = [s for s in names if any(by_stage[s])]
    other = {name: Counter(e["detail"]["item"] for e in session.of(name)) for name in
             ("cue_skipped", "cue_cancelled")}  # fmt: skip
    groups = {c["item"]: c.get("group") for c in (*cued, *shams)}
    rows = [
        (item, str(groups.get(item, "")), sum(by_stage[s][k] for s in names), *(by_stage[s][k] for s in used),
         sham[item], other["cue_skipped"][item], other["cue_cancelled"][item])
        for k, item in enumerate(ITEMS)
    ]  # fmt: skip
    rows.append(("all", "", *(sum(row[k] for row in rows) for k in range(2, len(rows[0])))))
    total = html_page.table(
        ("Item", "group", "cues", *used, "shams", "skipped", "taken back"), rows,
        "Cues that sounded, by the stage at their decision; shams are silent and logged."
        + (f" {len(session.unheard)} more did not sound (device gone or late) and are counted nowhere here."
           if session.unheard else ""),
    )  # fmt: skip
    turns = Counter((c.get("group"), c["stage"]) for c in cued)
    group_rows = [
        (f"group {g}", *(turns[g, s] for s in used), sum(turns[g, s] for s in used))
        for g in sorted({g for g, _ in turns}, key=str)
    ]
    said = f"{len(cued)} cues and {len(shams)} shams; the table below has the numbers."
    html = html_page.figure(
        plots_session.cue_counts(ITEMS, by_stage, [sham[i] for i in ITEMS], kind), f"Cues an item: {said}"
    )
    gaps = _intervals([*cued, *shams])
    if len(gaps):
        low, middle, high = np.percentile(gaps, [5, 50, 95])
        html += html_page.figure(
            plots_session.intervals(gaps, kind),
            f"Intervals between cues: median {middle:.1f} s, 5 to 95 % {low:.1f} to {high:.1f} s.",
            f"Onset to onset, shams counted: median {middle:.2f} s, 5 to 95 % {low:.2f} to {high:.2f} s, "
            f"shortest {gaps.min():.2f} s.",
            narrow=True,
        )
    return html + html_page.table(("Group", *used, "all"), group_rows, "Cues by group.") + total


def pauses(session):
    """How often and how long cueing paused, and why."""
    found = session.pauses()
    if not found:
        return html_page.paragraph("Cueing never paused after it had begun, or never began.")
    lengths = {}
    for begin, end, reason in found:
        lengths.setdefault(reason, []).append(end - begin)
    rows = [
        (reason, len(times), sum(times) / 60, float(np.median(times)))
        for reason, times in sorted(lengths.items(), key=lambda entry: -sum(entry[1]))
    ]
    html = html_page.table(
        ("Reason at its beginning", "pauses", "min", "median s"), rows[:_ROWS],
        "A pause lasts until cueing is on again; meanwhile another reason may have taken over.",
    )  # fmt: skip
    arousals = Counter(e["detail"]["reason"] for e in session.of("arousal"))
    if arousals:
        html += html_page.table(
            ("Arousal", "times"), list(arousals.most_common()), "While the gate was open."
        )
    return html


def phase(session, kind):
    """Which phase cues met, against the target."""
    found = session.phases()
    if not found:
        return html_page.paragraph("The phase of no cue was measured.")
    target = session.setting("cues.lock.target_degrees", 0.0)
    html, rows = "", []
    for name, degrees in found.items():
        mean = np.exp(1j * np.radians(degrees)).mean()
        off = np.abs(np.degrees(np.angle(np.exp(1j * np.radians(degrees - target)))))
        near = proportion(int((off <= _WITHIN).sum()), len(degrees), 2 * _WITHIN / 360)
        spread = np.degrees(np.sqrt(-2 * np.log(max(abs(mean), 1e-12))))
        rows.append((
            f"cues {name}", len(degrees), f"{np.degrees(np.angle(mean)):.0f}°", f"{abs(mean):.2f}",
            f"{spread:.0f}°", f"{near['accuracy']:.0%} ({near['low']:.0%} to {near['high']:.0%})",
        ))  # fmt: skip
        html += html_page.figure(
            evoked.rose(degrees, target if name == "locked" else None, f"Cues {name}", kind),
            f"Phases of {len(degrees)} cues {name}: mean {rows[-1][2]}, circular SD {rows[-1][4]}.",
            narrow=True,
        )
    caption = (
        f"0° is the peak of the up-state, the target {target:g}°. Measured afterwards on both sides of the "
        f"onset (zero phase, 0.3 to 2 Hz, Hilbert). {2 * _WITHIN / 360:.0%} of cues at random would come "
        f"within {_WITHIN}° of the target."
    )
    header = ("", "n", "mean", "length R", "circular SD", f"within {_WITHIN}° of {target:g}° (95 %)")
    return html + html_page.table(header, rows, caption)


def responses(session, found, heard, kind):
    """Mean responses to cues and shams."""
    if not heard:
        return html_page.paragraph(
            "The sleeper of this recording did not hear the cues: there is no response."
        )
    if not found:
        return html_page.paragraph(
            "No response was recorded: no cue, no recording, or no EEG channel by name."
        )
    rule = (
        f"{BEFORE:g} s before to {AFTER:g} s after the onset, baseline the {BEFORE:g} s before it, means of "
        f"10 ms, no filter. Left out: samples that were lost or are not finite, and responses in which more "
        f"than {SHARE:.0%} of the channels exceed {LARGEST:g} µV from peak to peak."
    )
    rows = [(name, r.n, r.rejected, r.missing) for name, r in found.items()]
    html = html_page.table(("", "averaged", "left out", "not recorded"), rows, rule)
    averaged = {name: r for name, r in found.items() if r.n}
    if not averaged:
        return html
    names = next(iter(averaged.values())).names
    channel = next((n for n in ("Cz", "Fz", "EEG Cz", "EEG Fz") if n in names), names[0])
    html += html_page.figure(
        evoked.evoked(averaged, channel, kind),
        f"Mean response at {channel} to " + " and ".join(f"{r.n} {n}" for n, r in averaged.items()) + ".",
        "Band: 95 % interval of the mean over cues (1.96 standard errors).",
    )
    if len(names) >= 8:
        html += html_page.figure(
            evoked.topographies(averaged, kind),
            "Maps of the mean response in three windows after the onset.",
            "Windows chosen beforehand; all maps on one scale, reference as recorded.",
        )
    return html


def decoding(session, kind):
    """What was decoded after which cue."""
    failed = session.of("decode_failed")
    reasons = Counter(e["detail"]["reason"] for e in failed)
    why = html_page.table(("Decodes that failed", "times"), list(reasons.most_common(20))) if failed else ""
    pairs, shams = session.decodes(), session.decodes(sham=True)
    if not len(pairs) and not len(shams):
        return html_page.paragraph("Nothing was decoded.") + why
    if not session.truth:
        return (
            html_page.paragraph(
                f"{len(pairs)} decodes. They can be neither right nor wrong: the recording holds no response "
                "to the cues of this session."
            )
            + why
        )
    rows = []
    for name, found in (("cues", pairs), ("shams (nothing was played)", shams)):
        if len(found):
            hits = proportion(int((found[:, 0] == found[:, 1]).sum()), len(found), CHANCE)
            rows.append((
                name, hits["n"], hits["hits"], f"{hits['accuracy']:.1%}",
                f"{hits['low']:.1%} to {hits['high']:.1%}", f"{hits['p']:.2g}",
            ))  # fmt: skip
    caption = (
        f"Chance {CHANCE:.1%} (1 of {len(ITEMS)}); Wilson's 95 % interval; p one-sided, binomial, cues taken "
        "as independent of each other."
    )
    if kind is not None:
        caption += f" {kind[0].upper()}{kind[1:]}."
    html = html_page.table(("Top-1", "n", "right", "share", "95 %", "p"), rows, caption)
    if len(pairs):
        html += html_page.figure(
            evoked.confusion(pairs, ITEMS, CHANCE, kind),
            f"Decoded against cued items, {len(pairs)} decodes; the diagonal is right.",
        )
    flagged = sum(bool(e["detail"].get("flags")) for e in session.of("decode"))
    if flagged:
        html += html_page.paragraph(f"{flagged} decodes had a channel with a bad signal (flags in the log).")
    return html + why


def latencies(session, kind):
    """Distributions of what was timed."""
    found = session.latencies()
    if not found:
        return html_page.paragraph("Nothing was timed.")
    rows = [
        (name, len(v), *(f"{x:.1f}" for x in (*np.percentile(v, [50, 95, 99]), v.max(), v.std())))
        for name, v in found.items()
    ]
    header = ("ms", "n", "median", "95 %", "99 %", "largest", "SD")
    what = "; ".join(f"{row[0]}: median {row[2]} ms" for row in rows)
    return html_page.figure(plots_session.latencies(found, kind), f"Latencies. {what}.") + html_page.table(
        header, rows
    )


def quality(session, kind):
    """When which channel had a bad signal."""
    bad = session.bad_channels()
    if not bad:
        return html_page.paragraph("No channel in use was found bad.")
    length = max(1e-9, session.ends - session.begins)
    rows = []
    for name, found in sorted(bad.items(), key=lambda entry: -sum(e - b for b, e, _ in entry[1])):
        seconds = sum(e - b for b, e, _ in found)
        reasons = Counter(plots_session.kind_of(r) for *_, r in found)
        rows.append((name, len(found), seconds / 60, f"{seconds / length:.1%}",
                     ", ".join(f"{r} ({n})" for r, n in reasons.most_common(4))))  # fmt: skip
    svg = plots_session.quality(bad, (session.begins, session.ends), session.outages(), kind)
    return html_page.figure(svg, f"{len(bad)} channels were bad at some time; the table has the numbers.") + (
        html_page.table(("Channel", "times", "min", "of the session", "reasons"), rows[:_ROWS])
    )


def faults(session):
    """What went wrong, and what the operator did."""
    counted = Counter(_class(e) for e in session.events if _class(e))
    lost = sum(e["detail"].get("seconds", 0) for e in session.of("gap"))
    rows = [("samples lost", f"{lost:.2f} s in {len(session.of('gap'))} gaps")]
    rows += [(name, str(number)) for name, number in counted.most_common() if name != "gap"]
    begin = session.begins
    told = [e for e in session.events if _class(e)]
    listed = [(_clock(e["seconds"] - begin), e["event"], _words(e)) for e in told]
    html = html_page.table(("What", "how much"), rows)
    if listed:
        more = "" if len(listed) <= _ROWS else f"; {len(listed) - _ROWS} more are in log.jsonl"
        html += html_page.table(("Time", "event", "what"), listed[:_ROWS], f"Since the session began{more}.")
    return html


def origin(session):
    """Where the numbers come from."""
    about = session.about
    rows = [
        (name, str(about[key]))
        for name, key in (("started", "started"), ("ending", "ending"), ("seed", "seed"), ("git", "git"))
        if about.get(key) is not None
    ]
    recording = about.get("recording", {})
    rows += [(k, str(v)) for k, v in recording.items() if isinstance(v, str | int | float)]
    rows += [(f"version of {k}", str(v)) for k, v in about.get("versions", {}).items() if v]
    html = html_page.table(("", ""), rows) if rows else ""
    notes = about.get("subject", {}).get("notes")
    html += html_page.paragraph(f"Notes: {notes}") if notes else ""
    path = session.folder / "settings.yaml"
    if path.is_file():
        html += html_page.details("All settings", path.read_text(encoding="utf-8", errors="replace"))
    return html or html_page.paragraph("Nothing says it.")


# --- small parts --------------------------------------------------------------------------------------------

_TOLD = ("gap", "stream", "fault", "resume", "stage_skipped", "command", "volume")


def _class(event):
    """Return how an event counts among faults and commands, None for others."""
    kind, detail = event["event"], event["detail"]
    if kind not in _TOLD:
        return None
    if kind == "stream":
        return f"stream {detail.get('state')}"
    if kind == "fault":
        return f"{detail.get('part')} {detail.get('state')}"
    return f"command {detail.get('command')}" if kind == "command" else kind


def _words(event):
    detail = event["detail"]
    return ", ".join(
        f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}"
        for k, v in detail.items()
        if v not in (None, {}, "")
    )


def _intervals(cues):
    """Return the seconds between onsets that follow each other within half a minute."""
    gaps = np.diff(sorted(c["seconds"] for c in cues))
    return gaps[gaps < 30]


def _plain(spans):
    return [(begin, end) for begin, end, _ in spans]


def _minutes(spans):
    return sum(end - begin for begin, end, _ in spans) / 60


def _long(seconds):
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{seconds / 60:.1f} min"


def _clock(seconds):
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _state(session):
    return "bad" if session.ending.startswith(("broken", "error")) else None
