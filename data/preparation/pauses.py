"""What a gap in a recording means for what stands beside it: tables of events, scorings, the samples around it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from sleep_interpreter.data.formats.scoring_readers import UNSCORED, Hypnogram
from sleep_interpreter.utils.core.constants import STAGING_SECONDS, STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.gaps import Timeline, without_kind
from sleep_interpreter.utils.signal.recording import Recording

_LEAST_SECONDS = 2.0  # what is shorter between two gaps holds no trial and cannot be filtered
_TOLERANCE = 1.0


def spans(recording: Recording) -> np.ndarray:
    """Return where nothing was recorded, begin and end in s, (n, 2), in order.

    These are the gaps, and what a FIF file marks as skipped. What is shorter than 2 s beside one belongs to it.
    """
    found = recording.timeline.spans.tolist()
    marks, shift = recording.annotations, recording.first_time
    for onset, duration, text in zip(marks.onset, marks.duration, marks.description, strict=True):
        if without_kind(text) == "BAD_ACQ_SKIP":
            found.append([onset - shift, onset - shift + duration])
    merged: list[list[float]] = []
    for begin, end in sorted(found):
        begin = 0.0 if begin < _LEAST_SECONDS else begin
        end = recording.seconds if end > recording.seconds - _LEAST_SECONDS else end
        if merged and begin - merged[-1][1] < _LEAST_SECONDS:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([begin, end])
    return np.array(merged, float).reshape(-1, 2)


def in_samples(gaps: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Return gaps (n, 2) in s as (first sample, first one behind) at 500 Hz, of a file of `count` samples."""
    return [(min(a, count), min(b, count)) for a, b in np.rint(gaps * STREAM_RATE).astype(int).tolist()]


def events_in_time(onset: np.ndarray, timeline: Timeline, counted: bool | None, what: str) -> np.ndarray:
    """Return when events of a table happened, in s from the first sample, if the table may have skipped the gaps.

    `counted` says whether its times count the gaps; None: only one of both can be, or a `UserError`, in which `what`
    names the table.
    """
    if not timeline or not (onset > timeline.gaps[0].stored).any():
        return onset
    begin, end = timeline.spans.T[..., None]
    with_gaps = timeline.known and not ((onset > begin + 0.01) & (onset < end - 0.01)).any()
    with_gaps = with_gaps and onset.max() <= timeline.seconds + _TOLERANCE
    without = onset.max() <= timeline.stored_seconds + _TOLERANCE
    return timeline.true(onset) if _skipped(counted, with_gaps, without, timeline, what) else onset


def scoring_in_time(found: Hypnogram, timeline: Timeline, counted: bool | None, what: str) -> Hypnogram:
    """Return a scoring, whose times count from the recording's first sample, with its true times; as `events_in_time`.

    A scoring that leaves the gaps out, or is longer than what was recorded, counts them.
    """
    begin, end = found.onset, found.onset + found.duration
    if not timeline or not (end > timeline.gaps[0].stored + _TOLERANCE).any():
        return found
    total = covered = 0.0
    for first, last in timeline.spans:
        total += last - first
        covered += float(np.clip(np.minimum(end, last) - np.maximum(begin, first), 0, None).sum())
    longer = float(end.max()) > timeline.stored_seconds + STAGING_SECONDS
    sure = timeline.known and (longer or (total > STAGING_SECONDS and covered < total / 10))
    if not _skipped(counted, timeline.known, not sure, timeline, what):
        return found
    onset = timeline.true(begin)
    held = np.minimum(found.duration, np.append(onset[1:] - onset[:-1], np.inf))
    return replace(found, onset=onset, duration=held)


def _skipped(counted: bool | None, with_gaps: bool, without: bool, timeline: Timeline, what: str) -> bool:
    """Tell whether times skip the gaps: as said, or as only one of both can be."""
    if counted is not None:
        if counted and not timeline.known:
            raise UserError(
                f"{what}: recordings.gaps_in_tables is true, but the recording does not say how long its gaps are; "
                "false takes the times to count its samples"
            )
        return not counted
    if timeline.known and with_gaps != without:
        return without
    lost = timeline.seconds - timeline.stored_seconds
    gaps = f"gaps of {lost:g} s" if timeline.known else "gaps of unknown length"
    why = "fit neither with nor without them" if timeline.known and not with_gaps else "may count them or not"
    raise UserError(
        f"{what}: the recording has {gaps}, and the times {why}; say it with recordings.gaps_in_tables: true (the "
        "times go on in a gap) or false (they count the recorded samples only)"
    )


def unscored(found: Hypnogram, gaps: np.ndarray) -> Hypnogram:
    """Return a hypnogram in which nothing is scored while nothing was recorded."""
    gaps = gaps[gaps[:, 1] > gaps[:, 0]]
    if not len(gaps) or not len(found.onset):
        return found
    pieces = []
    for k, (begin, end) in enumerate(zip(found.onset, found.onset + found.duration, strict=True)):
        edges = np.unique([begin, *np.clip(gaps.ravel(), begin, end), end])
        pieces += [(k, *piece) for piece in pairwise(edges.tolist())] or [(k, begin, end)]
    rows, onset, ends = (np.array(column) for column in zip(*pieces, strict=True))
    middle = (onset + ends)[:, None] / 2
    lost = ((gaps[:, 0] < middle) & (middle < gaps[:, 1])).any(axis=1)
    names = tuple(found.names[k] for k in rows) if found.names else ()
    stage = np.where(lost, UNSCORED, found.stage[rows])
    return replace(found, onset=onset, duration=ends - onset, stage=stage, names=names)
