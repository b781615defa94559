"""Which item is cued when: seeded draws on the sample clock."""

import zlib
from collections import deque

import numpy as np

from sleep_interpreter.realtime.Output.cue import Cue
from sleep_interpreter.utils.core.constants import ITEMS, STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError

_HOUR = round(3600 * STREAM_RATE)
_TAKEN = ("cue", "sham", "cue_skipped", "cue_cancelled")
"""Events that a cue of the schedule ends in."""


def generator(seed, subject, purpose):
    """Return the random generator of one purpose, so that one purpose's draws never shift another's.

    Parameters
    ----------
    seed : int
    subject : Subject
        Its id and session label take part: two sleepers, or two labelled nights, get different orders.
    purpose : str
        "intervals", "items" or "shams".
    """
    words = [zlib.crc32(text.encode()) for text in (subject.id, subject.session, purpose)]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


class CueSchedule:
    """Cues at uniformly drawn intervals while the gate is open.

    The first cue comes one interval after the gate opens. Groups take turns by the session's clock, so a
    closed gate does not shift them. With the rule "published" an item is drawn uniformly from the current
    group (the published way of drawing is unknown); with "balanced" each group's items come once each, in a
    new order every time, and never the same item twice in a row.

    Parameters
    ----------
    settings : CueSettings
    seed : int
    subject : Subject
    playlist : Playlist | None
        Its groups and gains instead of the settings' groups.
    """

    lock = None

    def __init__(self, settings, seed, subject, playlist=None):
        self._groups = settings.groups if playlist is None else playlist.groups
        self._gains = {} if playlist is None else playlist.gains
        self._balanced, self._sham_share = settings.rule == "balanced", settings.sham_share
        self._interval = [s * STREAM_RATE for s in settings.interval_seconds]
        self._group_length = round(settings.group_seconds * STREAM_RATE)
        locked = settings.lock.method != "none"
        self._lead = round((settings.lock if locked else settings).lead_seconds * STREAM_RATE)
        self._intervals = generator(seed, subject, "intervals")
        self._items = generator(seed, subject, "items")
        self._shams = generator(seed, subject, "shams")
        self._bags, self._last = {}, None  # of each group, what is left to come
        self._most, self._recent = settings.max_per_hour, deque(maxlen=settings.max_per_hour)
        self._turned = 0
        self._onset = None
        self._count = 0

    @property
    def onset(self):
        """Sample at which the next cue is planned; None while there is none."""
        return self._onset

    @property
    def due(self):
        """Sample at which the next cue is decided; None while there is none."""
        return None if self._onset is None else self._onset - self._lead

    def start(self, sample):
        """Begin cueing: the gate opened at `sample`."""
        self._onset = self._after(sample)

    def stop(self):
        """End cueing: the cue that was coming is dropped."""
        self._onset = None

    def take(self, now, onset=None, **more):
        """Return the cue that is due, at another `onset` if given, and plan the next one."""
        onset = self._onset if onset is None else onset
        group = self.group(onset)
        item, sham = self._draw(group)
        if more.get("skipped") is None:
            self._recent.append(onset)
        self._onset = self._after(onset)
        return Cue(self._count, item, group, onset, gain_db=self._gains.get(item, 0.0), sham=sham, **more)

    def group(self, sample):
        """Return the group (0 or 1) whose turn it is at `sample`."""
        return (sample // self._group_length + self._turned) % 2

    def next_switch(self, sample):
        """Return the first sample after `sample` at which the group changes."""
        return (sample // self._group_length + 1) * self._group_length

    def switch_group(self, sample):
        """Give the other group its turn; they go on taking turns from there."""
        self._turned += 1

    def resume(self, events):
        """Go on where a session broke off: the same draws are made again, and the same limits hold.

        Parameters
        ----------
        events : sequence of dict
            As in log.jsonl.

        Raises
        ------
        UserError
            The log holds other cues than these settings, seed and subject give.
        """
        for event in events:
            kind, detail = event["event"], event["detail"]
            if kind == "cueing" and detail["on"]:
                self._intervals.uniform(*self._interval)
            elif kind == "command" and detail["command"] == "group" and detail["ok"]:
                self._turned += 1
        taken = {e["detail"]["number"]: e for e in events if e["event"] in _TAKEN}
        for number in sorted(taken):
            event = taken[number]
            if number != self._count + 1:  # decided, but the session broke off before it was logged
                raise UserError(f"the log lacks cue {self._count + 1}: it cannot be resumed")
            detail = event["detail"]
            item, _ = self._draw(detail["group"])
            if ITEMS[item] != detail["item"]:
                raise UserError(
                    f"cue {number} of the log is {detail['item']}, these settings give {ITEMS[item]}: seed, "
                    "subject, groups and rule must be those of the session"
                )
            self._intervals.uniform(*self._interval)
            if event["event"] in ("cue", "sham"):
                self._recent.append(event["sample"])

    def _draw(self, group):
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

    def _after(self, sample):
        onset = sample + max(self._lead + 1, round(self._intervals.uniform(*self._interval)))
        if self._most is not None and len(self._recent) == self._most:
            onset = max(onset, self._recent[0] + _HOUR)
        return onset


class RecordedCues:
    """The cues that a recording's annotations hold, in order.

    Parameters
    ----------
    cues : sequence of (float, int)
        Seconds since the start of the session, item.
    groups : sequence of 2 sequences of int
    """

    lock = None

    def __init__(self, cues, groups):
        self._cues = [
            Cue(
                number,
                item,
                next((g for g, items in enumerate(groups) if item in items), -1),
                round(seconds * STREAM_RATE),
                recorded=True,
            )
            for number, (seconds, item) in enumerate(sorted(cues), start=1)
        ]
        self._next = 0

    @property
    def due(self):
        """Sample of the next recorded cue; None when there is none left."""
        return self._cues[self._next].onset if self._next < len(self._cues) else None

    def take(self, now):
        """Return the cue that is due and go on to the next."""
        self._next += 1
        return self._cues[self._next - 1]
