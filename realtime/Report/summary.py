"""What is left of a session: summary, hypnogram table and figure, all made from its events."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sleep_interpreter.realtime.Parameters.settings import SessionSettings
from sleep_interpreter.realtime.Recording.event_log import silent_cues
from sleep_interpreter.utils.core.constants import STAGES, STREAM_RATE
from sleep_interpreter.utils.core.data_card import DataCard
from sleep_interpreter.utils.core.paths import atomic_write
from sleep_interpreter.utils.core.provenance import write_json
from sleep_interpreter.utils.metrics.statistics import chance_of_guesses, proportion
from sleep_interpreter.utils.staging.settings import GateSettings

StageSpan = tuple[float, float, str, list[float] | None]
"""Onset s, duration s, stage, smoothed probabilities."""


def stage_spans(events: Sequence[dict]) -> list[StageSpan]:
    """Return when which stage was in force, one span a staging.

    An estimate stands until the next one, or until the session broke off before a --resume; the time before
    the first is not covered.
    """
    stages = [e for e in events if e["event"] == "stage"]
    starts = [e["seconds"] for e in stages]
    ends = [*starts[1:], events[-1]["seconds"]] if stages else []
    for e in events:
        if e["event"] == "resume" and e["detail"].get("after") is not None:
            broke = e["seconds"] - (e["sample"] - e["detail"]["after"]) / STREAM_RATE
            ends = [min(end, max(start, broke)) if start < e["seconds"] <= end else end
                    for start, end in zip(starts, ends, strict=True)]  # fmt: skip
    return [
        (start, round(end - start, 3), e["detail"]["stage"], e["detail"]["smoothed"])
        for e, start, end in zip(stages, starts, ends, strict=True)
    ]


def stage_minutes(spans: Iterable[StageSpan], seconds: float) -> dict[str, float]:
    """Return the minutes of each stage in a session of that length; what no span covers is unknown."""
    minutes = dict.fromkeys((*STAGES, "unknown"), 0.0)
    for _, duration, stage, _ in spans:
        minutes[stage] += duration / 60
    minutes["unknown"] += max(0.0, seconds / 60 - sum(minutes.values()))  # before the first staging
    return minutes


def phase_statistics(degrees: np.ndarray) -> tuple[float, float, float]:
    """Return the circular mean in degrees, the length of the mean vector, and the circular SD in degrees."""
    mean = np.exp(1j * np.radians(degrees)).mean()
    spread = np.sqrt(-2 * np.log(np.clip(abs(mean), 1e-12, 1)))
    return float(np.degrees(np.angle(mean))), float(abs(mean)), float(np.degrees(spread))


def summarise(
    events: Sequence[dict], *, recorded: bool, simulated: bool, seconds: float, card: DataCard, gate: GateSettings
) -> dict:
    """Return the session's counts as a mapping for JSON; `events` as in log.jsonl, `seconds` its length.

    `recorded`: the signal holds responses to these cues (a live stream, or a recording's own cues), so the truth of
    every decode is known; `simulated`: the recording is simulated; `card` has the items, `gate` says when
    cues may be played.
    """
    items = card.item_names
    silent = silent_cues(events)
    heard = [e for e in events if e["detail"].get("number") not in silent]
    cues = [e for e in heard if e["event"] == "cue"]
    decodes = [e for e in heard if e["event"] == "decode" and not e["detail"].get("sham")]
    minutes = stage_minutes(stage_spans(events), seconds)
    warned = [e for e in events if e["event"] == "notice" and e["detail"]["level"] == "warning"]
    result: dict = {
        "recording": "simulated" if simulated else "not marked as simulated",
        "ending": next((e["detail"]["reason"] for e in reversed(events) if e["event"] == "stop"), "torn off"),
        "warnings": [e["detail"]["text"] for e in warned],
        "minutes": round(seconds / 60, 3),
        "stage_minutes": {stage: round(m, 3) for stage, m in minutes.items()},
        "gate": gate.model_dump(),
        "gate_openings": sum(e["event"] == "gate" and e["detail"]["open"] for e in events),
        "cues": {
            "total": len(cues),
            "per_item": _count(cues, "item", items),
            "per_stage": _count(cues, "stage", (*STAGES, "unknown")),
            "skipped": sum(e["event"] == "cue_skipped" for e in events),
            "skip_reasons": skip_reasons(events),
            "cancelled": sum(e["event"] == "cue_cancelled" for e in events),
            "not_sounded": sum(e["event"] == "cue" for e in events) - len(cues),
            "shams": sum(e["event"] == "sham" for e in events),
        },
        "phase": _phases(heard),
        "decodes": {
            "total": len(decodes),
            "failed": sum(e["event"] == "decode_failed" for e in events),
            "per_item": _count(decodes, "item", items),
        },
    }
    if not recorded:
        result["accuracy"] = None
        result["accuracy_note"] = (
            "decodes can be neither right nor wrong here: the recording holds no response to cues that were "
            "scheduled by this replay"
        )
    else:
        pairs = [[card.item_index(e["detail"][key]) for key in ("cued", "item")] for e in decodes]
        cued, found = np.array(pairs, int).reshape(-1, 2).T
        chance = chance_of_guesses(cued, found, len(items))
        result["accuracy"] = {**proportion(int(np.sum(cued == found)), len(decodes), chance), "interval": "Wilson 95 %"}
        kind = "simulated recording: says nothing about people" if simulated else _kind(result)
        result["accuracy_note"] = f"top-1 of {len(items)} on cues used while the gate was open; {kind}"
    return result


def skip_reasons(events: Iterable[dict]) -> dict[str, int]:
    """Return how many cues were skipped for each reason, the most frequent first."""
    return dict(Counter(e["detail"]["reason"] for e in events if e["event"] == "cue_skipped").most_common())


def closed_gate(reasons: Collection[str], gate: Mapping[str, Any]) -> str | None:
    """Return when the gate opens, by its settings, where no cue was skipped for anything but a closed gate."""
    if not reasons or not all(reason.startswith("the gate is closed") for reason in reasons):
        return None
    needed = "{} stagings in a row with P({}) of at least {} (gate.{}_detections, gate.{}_probability)"
    rules = [needed.format(gate["nrem_detections"], "N2) + P(N3", gate["nrem_probability"], "nrem", "nrem")]
    if gate["rem"]:
        rules.append(needed.format(gate["rem_detections"], "R", gate["rem_probability"], "rem", "rem"))
    rem = "" if gate["rem"] else "; cues in REM need gate.rem"
    return f"the gate was closed at every skipped cue; it opens after {', or '.join(rules)}{rem}"


def _phases(events: Sequence[dict]) -> dict | None:
    """Return how cues met the slow oscillation: those that waited for it and those that did not."""
    result = {}
    for name, locked in (("locked", True), ("not locked", False)):
        met = [e["detail"] for e in events if e["event"] == "cue_phase" and e["detail"]["locked"] is locked]
        met = [d for d in met if d["degrees"] is not None]
        if met:
            mean, _, spread = phase_statistics(np.array([d["degrees"] for d in met]))
            whole = any(d.get("phase_from", "whole") == "whole" for d in met)
            result[name] = {
                "n": len(met), "mean_degrees": round(mean, 1), "circular_sd_degrees": round(spread, 1),
                "phase_from": "whole" if whole else "precue",
            }  # fmt: skip
    return result or None


def summary_lines(summary: dict) -> list[str]:
    """Return the summary as lines for the screen."""
    stages = ", ".join(f"{s} {m:.1f}" for s, m in summary["stage_minutes"].items())
    cues, decodes = summary["cues"], summary["decodes"]
    lines = [
        f"{summary['minutes']:.1f} min of a {_kind(summary)}, {summary['ending']}",
        f"minutes per stage: {stages}",
        f"cues: {cues['total']} ({cues['skipped']} skipped); decodes: {decodes['total']} ({decodes['failed']} failed)",
    ]
    if cues["skip_reasons"]:
        lines.append("skipped: " + ", ".join(f"{n} ({reason})" for reason, n in cues["skip_reasons"].items()))
    if (opens := closed_gate(cues["skip_reasons"], summary["gate"])) is not None:
        lines.append(opens)
    if cues["not_sounded"]:
        lines.append(f"not counted: {cues['not_sounded']} cues that did not sound, as the log says")
    for name, row in (summary["phase"] or {}).items():
        lines.append(
            f"phase of the slow oscillation at cues {name}: mean {row['mean_degrees']:.0f} degrees, "
            f"circular SD {row['circular_sd_degrees']:.0f}, n = {row['n']}"
            + (" (WARNING: the response to the cue included)" if row["phase_from"] == "whole" else "")
        )
    accuracy = summary["accuracy"]
    if accuracy is None:
        if decodes["total"]:
            lines.append(summary["accuracy_note"])
    elif accuracy["n"]:
        lines.append(
            f"top-1 {accuracy['accuracy']:.1%} of n = {accuracy['n']} "
            f"(95 % {accuracy['low']:.1%} to {accuracy['high']:.1%}, chance {accuracy['chance']:.1%}), "
            f"{_kind(summary)}"
        )
    return [*lines, *(f"warning: {text}" for text in summary["warnings"])]


def write_hypnogram(events: Sequence[dict], path: Path) -> None:
    """Write one row a staging: onset and duration in s, smoothed stage and probabilities."""
    header = ["onset", "duration", "stage", *(f"p_{s.replace('/', '_')}" for s in STAGES)]
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as handle:
        handle.write("\t".join(header) + "\n")
        for onset, duration, stage, smoothed in stage_spans(events):
            numbers = ["n/a"] * len(STAGES) if smoothed is None else [f"{p:.6f}" for p in smoothed]
            handle.write("\t".join([f"{onset:.3f}", f"{duration:.3f}", stage, *numbers]) + "\n")


def write_summary(
    events: Sequence[dict], folder: Path, *, recorded: bool, simulated: bool, seconds: float,
    settings: SessionSettings, card: DataCard,
) -> dict:  # fmt: skip
    """Write hypnogram.tsv, summary.json and session.png into the session's folder; return the summary."""
    from sleep_interpreter.utils.plots.session import plot_session  # lazy: start-up

    summary = summarise(events, recorded=recorded, simulated=simulated, seconds=seconds, card=card, gate=settings.gate)
    write_hypnogram(events, folder / "hypnogram.tsv")
    write_json(folder / "summary.json", summary)
    title, threshold = f"{folder.parent.name}, {folder.name}", settings.gate.nrem_probability
    plot_session(events, folder / "session.png", title=title, kind=_kind(summary), threshold=threshold)
    return summary


def _kind(summary: dict) -> str:
    simulated = summary["recording"] == "simulated"
    return "simulated recording" if simulated else f"recording {summary['recording']}"


def _count(events: Iterable[dict], key: str, names: Iterable[str]) -> dict[str, int]:
    found = Counter(e["detail"][key] for e in events)
    return {name: found[name] for name in names}
