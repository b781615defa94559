"""Markdown tables of planted_events.py: what was found of what the simulator planted."""

import numpy as np


def _number(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def event_table(found):
    """Return the Markdown table of the cued nights."""
    rows = {
        "slow oscillations: planted in N2 and N3, found": lambda r: f"{r['so']['true']}, {r['so']['found']}",
        "trough within 0.25 s: precision, recall": lambda r: _pair(r["so"]),
        "spindles: planted, found": lambda r: f"{r['spindles']['true']}, {r['spindles']['found']}",
        "middle within 0.5 s: precision, recall": lambda r: _pair(r["spindles"]),
        "phase at cues inside an oscillation, found minus true: mean, SD (rad)": lambda r: (
            f"{_number(r['phase']['mean_rad'])}, {_number(r['phase']['sd_rad'])} (n = {r['phase']['n']})"
        ),
        "cues whose group is known and found: same group, same or next": lambda r: "{same}, {next} of {n}".format(
            **r["groups"]
        ),
    }
    lines = ["| | " + " | ".join(f"{name} (simulated)" for name in found) + " |", "|---" * (1 + len(found)) + "|"]
    return lines + [
        f"| {title} | " + " | ".join(cell(r) for r in found.values()) + " |" for title, cell in rows.items()
    ]


def _pair(row):
    return f"{_number(row['precision'])}, {_number(row['recall'])}"


def nap_table(found):
    """Return the Markdown table of the naps, a row a set and control, summed over subjects."""
    lines = [
        "| naps (simulated) | control, false a minute allowed | events a minute | planted, found "
        "| with the right item | by accident | false a minute, each nap | rho with memory (p) "
        "| rho with planted counts (p) |",
        "|---" * 9 + "|",
    ]
    for name, controls in found.items():
        for control, own in controls.items():
            if control == "around":
                continue
            nights = own["nights"].values()
            total = {k: sum(n[k] for n in nights) for k in ("true", "hits", "right_item", "found", "minutes")}
            accident = np.mean([n["recall_by_accident"] for n in nights])
            each = ", ".join(_number(n["false_per_min"]) for n in nights)
            rho = [
                f"{_number(r['mean_rho'])} ({_number(r['p'], 4)})" if r["n"] else "-"
                for r in (own["relation"], own["relation_to_planted"])
            ]
            lines.append(
                f"| {name}, {len(own['nights'])} of {total['minutes'] / len(own['nights']):.0f} min "
                f"| {control} | {total['found'] / total['minutes']:.2f} | {total['true']}, {total['hits']} "
                f"| {total['right_item']} | {accident:.0%} | {each} | {' | '.join(rho)} |"
            )
    return lines


def lag_table(found):
    """Return the Markdown table of what the decoder says around planted reactivations, every 40 ms."""
    lines = []
    for name, controls in found.items():
        if "around" in controls:
            own = controls["around"]
            rows = list(zip(own["lag_s"], own["top1"], own["score_sd"], strict=True))[::2]
            lines += [
                f"| {name} (simulated), n = {own['n']}: ms from a planted reactivation | "
                + " | ".join(f"{round(1000 * lag)}" for lag, *_ in rows) + " |",
                "|---" * (1 + len(rows)) + "|",
                "| planted item on top (%; chance 6.7) | "
                + " | ".join(f"{100 * t:.0f}" for _, t, _ in rows) + " |",
                "| its score (SD) | " + " | ".join(f"{z:.1f}" for *_, z in rows) + " |",
            ]  # fmt: skip
    return lines
