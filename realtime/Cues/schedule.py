"""Which item is cued when: seeded draws on the sample clock."""

import zlib
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from sleep_interpreter.realtime.Cues.phase_locking import TICK, PhaseLock
from sleep_interpreter.realtime.Cues.sounds import Playlist
from sleep_interpreter.realtime.Output.sinks import Cue
from sleep_interpreter.realtime.Parameters.settings import CueSettings
from sleep_interpreter.realtime.Subject import Subject
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.data_card import DataCard
from sleep_interpreter.utils.core.errors import UserError

_HOUR = round(3600 * STREAM_RATE)
_TAKEN = ("cue", "sham", "cue_skipped", "cue_cancelled")
"""Events that a cue of the schedule ends in."""


class Schedule(Protocol):
    """What a session asks for its cues: `CueSchedule`, `LockedCues`, `RecordedCues`.

    `lock` waits for a phase of the slow oscillation, and is to be given the stream.
    """

    lock: PhaseLock | None = None

    @property
    def due(self) -> int | None:
        """Sample at which to call `next_cue`; None while there is no cue to come."""

    def next_cue(self, now: int) -> Cue | None:
        """Return the cue that is due, and plan the one after it; None while it waits for its phase."""

    def begin_at(self, sample: int) -> None:
        """Begin the stream at a sample of the session, before anything of it has come."""
        return

    def start(self, sample: int) -> None:
        """Begin cueing: the gate opened at `sample`."""
        return

    def stop(self) -> None:
        """End cueing: the cue that was to come is dropped."""
        return

    def group(self, sample: int) -> int | None:
        """Return the group (0 or 1) whose turn it is at `sample`, None where they take no turns."""
        return None

    def next_switch(self, sample: int) -> int | None:
        """Return the first sample after `sample` at which the group changes."""
        return None

    def switch_group(self, sample: int) -> None:
        """Give the other group its turn; ValueError where they take no turns."""
        raise ValueError("recorded cues have no turns")


def purpose_generator(seed: int, subject: Subject, purpose: str) -> np.random.Generator:
    """Return the random generator of one purpose, so that one purpose's draws never shift another's.

    The subject's id and session label take part: two sleepers, or two labelled nights, get different orders.
    Purposes are "intervals", "items" and "shams".
    """
    words = [zlib.crc32(text.encode()) for text in (subject.id, subject.session, purpose)]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


class CueSchedule(Schedule):
    """Cues at uniformly drawn intervals while the gate is open.

    The first cue comes one interval after the gate opens. Groups take turns by the session's clock, so a closed gate
    does not shift them. With the rule "published" an item is drawn uniformly from the current group (the published
    way of drawing is unknown); with "balanced" each group's items come once each, in a new order every time, and
    never the same item twice in a row. Items are those of the data card. A playlist has groups and gains instead of
    the settings' groups.
    """

    def __init__(
        self, settings: CueSettings, seed: int, subject: Subject, card: DataCard, playlist: Playlist | None = None
    ) -> None:
        self._names = card.item_names
        self._groups = settings.groups_of(self._names) if playlist is None else playlist.groups
        self._gains = {} if playlist is None else playlist.gains
        self._balanced, self._sham_share = settings.rule == "balanced", settings.sham_share
        self._low, self._high = (s * STREAM_RATE for s in settings.interval_seconds)
        self._group_length = round(settings.group_seconds * STREAM_RATE)
        locked = settings.lock.method != "none"
        self._lead = round((settings.lock if locked else settings).lead_seconds * STREAM_RATE)
        self._intervals = purpose_generator(seed, subject, "intervals")
        self._items = purpose_generator(seed, subject, "items")
        self._shams = purpose_generator(seed, subject, "shams")
        self._bags: dict[tuple[int, ...], list[int]] = {}  # of each group, what is left to come
        self._last: int | None = None
        self._most = settings.max_per_hour
        self._recent: deque[int] = deque(maxlen=settings.max_per_hour)  # onsets
        self._switches = 0
        self.onset: int | None = None  # sample at which the next cue is planned
        self._count = 0

    @property
    def due(self) -> int | None:
        return None if self.onset is None else self.onset - self._lead

    def start(self, sample: int) -> None:
        self.onset = self._after(sample)

    def stop(self) -> None:
        self.onset = None

    def next_cue(self, now: int, onset: int | None = None, **more: Any) -> Cue:
        """Return the cue that is due, at another `onset` if given, and plan the next one."""
        onset = self.onset if onset is None else onset
        assert onset is not None, "cueing has begun"
        group = self.group(onset)
        item, sham = self._draw(group)
        if more.get("skipped") is None:
            self._recent.append(onset)
        self.onset = self._after(onset)
        return Cue(
            self._count, item, group, onset, gain_db=self._gains.get(item, 0.0), sham=sham, name=self._names[item],
            **more,
        )  # fmt: skip

    def group(self, sample: int) -> int:
        return (sample // self._group_length + self._switches) % 2

    def next_switch(self, sample: int) -> int:
        return (sample // self._group_length + 1) * self._group_length

    def switch_group(self, sample: int) -> None:
        """Give the other group its turn; they go on taking turns from there."""
        self._switches += 1

    def resume(self, events: Sequence[dict[str, Any]]) -> None:
        """Go on where a session broke off: the same draws are made again, and the same limits hold.

        `events` are as in log.jsonl. `UserError` where it holds other cues than these settings, seed and subject
        give.
        """
        for event in events:
            kind, detail = event["event"], event["detail"]
            if kind == "cueing" and detail["on"]:
                self._intervals.uniform(self._low, self._high)
            elif kind == "command" and detail["command"] == "group" and detail["ok"]:
                self._switches += 1
        taken = {e["detail"]["number"]: e for e in events if e["event"] in _TAKEN}
        for number in sorted(taken):
            event = taken[number]
            if number != self._count + 1:  # decided, but the session broke off before it was logged
                raise UserError(f"the log lacks cue {self._count + 1}: it cannot be resumed")
            detail = event["detail"]
            item, _ = self._draw(detail["group"])
            if self._names[item] != detail["item"]:
                raise UserError(
                    f"cue {number} of the log is {detail['item']}, these settings give {self._names[item]}: seed, "
                    "subject, groups and rule must be those of the session"
                )
            self._intervals.uniform(self._low, self._high)
            if event["event"] in ("cue", "sham"):
                self._recent.append(event["sample"])

    def _draw(self, group: int) -> tuple[int, bool]:
        """Draw the next cue's item and whether it is a sham."""
        self._count += 1
        items = tuple(self._groups[group])
        if self._balanced:
            if not self._bags.get(items):
                bag = [int(i) for i in self._items.permutation(items)]
                if len(bag) > 1 and bag[0] == self._last:
                    bag[0], bag[1] = bag[1], bag[0]
                self._bags[items] = bag
            item = self._bags[items].pop(0)
        else:
            item = int(self._items.choice(items))
        self._last = item
        # a generator of its own: with or without shams the same items come at the same times
        return item, bool(self._sham_share) and float(self._shams.random()) < self._sham_share

    def _after(self, sample: int) -> int:
        onset = sample + max(self._lead + 1, round(self._intervals.uniform(self._low, self._high)))
        if self._most is not None and len(self._recent) == self._most:
            onset = max(onset, self._recent[0] + _HOUR)
        return onset


class LockedCues(Schedule):
    """A schedule whose cues wait for their phase from the planned onset on; the session gives `lock` the stream."""

    def __init__(self, schedule: CueSchedule, lock: PhaseLock) -> None:
        self._schedule, self._phase = schedule, lock
        self.lock = lock
        self._wait = round(lock.settings.wait_seconds * STREAM_RATE)
        self._poll_at = 0

    def begin_at(self, sample: int) -> None:
        self._phase.now = sample

    @property
    def due(self) -> int | None:
        """Sample at which to ask next whether the phase is coming; None while there is no cue to come."""
        planned = self._schedule.due
        return None if planned is None else -(-max(planned, self._poll_at) // TICK) * TICK

    def start(self, sample: int) -> None:
        self._poll_at = 0
        self._schedule.start(sample)

    def stop(self) -> None:
        self._schedule.stop()

    def group(self, sample: int) -> int:
        return self._schedule.group(sample)

    def next_switch(self, sample: int) -> int:
        return self._schedule.next_switch(sample)

    def switch_group(self, sample: int) -> None:
        self._schedule.switch_group(sample)

    def next_cue(self, now: int) -> Cue | None:
        """Return the cue if its phase is coming or its time is over, None while it waits."""
        planned, soonest = self._schedule.onset, now + self._phase.lead
        assert planned is not None, "cueing has begun"
        onset = self._phase.onset(max(planned, soonest))
        if onset is not None:
            return self._schedule.next_cue(now, onset, locked=True)
        if soonest < planned + self._wait:
            self._poll_at = now + TICK
            return None
        why = f"no slow oscillation within {self._phase.settings.wait_seconds:g} s"
        skipped = why if self._phase.settings.otherwise == "skip" else None
        return self._schedule.next_cue(now, soonest, skipped=skipped)


class RecordedCues(Schedule):
    """The cues that a recording's annotations hold, in order; neither gate nor groups change them.

    `cues` has (seconds since the start of the session, number of the item), `groups` the items of each group, `names`
    the items'.
    """

    def __init__(
        self, cues: Sequence[tuple[float, int]], groups: Sequence[Sequence[int]], names: Sequence[str]
    ) -> None:
        self._cues: list[Cue] = []
        for number, (seconds, item) in enumerate(sorted(cues), start=1):
            group = next((g for g, items in enumerate(groups) if item in items), -1)
            self._cues.append(Cue(number, item, group, round(seconds * STREAM_RATE), recorded=True, name=names[item]))
        self._next = 0

    @property
    def due(self) -> int | None:
        return self._cues[self._next].onset if self._next < len(self._cues) else None

    def next_cue(self, now: int) -> Cue:
        self._next += 1
        return self._cues[self._next - 1]
