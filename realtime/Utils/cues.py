"""Which item is cued when: seeded draws on the sample clock."""

import zlib
from dataclasses import dataclass

import numpy as np

from utils.vocabulary import STREAM_RATE


@dataclass(frozen=True)
class Cue:
    """One cue: its number in the session, item, group and onset as a sample index.

    `locked`: it waited for a phase of the slow oscillation and found it; `skipped`: why it is not played.
    """

    number: int
    item: int
    group: int
    onset: int
    recorded: bool = False
    locked: bool = False
    skipped: str | None = None


def generator(seed, subject, purpose):
    """Return the random generator of one purpose, so that one purpose's draws never shift another's.

    Parameters
    ----------
    seed : int
    subject : Subject
        Its id and session label take part: two sleepers, or two labelled nights, get different orders.
    purpose : str
        "intervals" or "items".
    """
    words = [zlib.crc32(text.encode()) for text in (subject.id, subject.session, purpose)]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


class CueSchedule:
    """Cues at uniformly drawn intervals while the gate is open.

    The first cue comes one interval after the gate opens. Groups take turns by the session's clock, so a
    closed gate does not shift them. The item is drawn uniformly from the current group: the published
    way of drawing is unknown.

    Parameters
    ----------
    settings : CueSettings
    seed : int
    subject : Subject
    """

    lock = None

    def __init__(self, settings, seed, subject):
        self._groups = settings.groups
        self._interval = [s * STREAM_RATE for s in settings.interval_seconds]
        self._group_length = round(settings.group_seconds * STREAM_RATE)
        locked = settings.lock.method != "none"
        self._lead = round((settings.lock if locked else settings).lead_seconds * STREAM_RATE)
        self._intervals = generator(seed, subject, "intervals")
        self._items = generator(seed, subject, "items")
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
        self._count += 1
        item = int(self._items.choice(self._groups[group]))
        self._onset = self._after(onset)
        return Cue(self._count, item, group, onset, **more)

    def group(self, sample):
        """Return the group (0 or 1) whose turn it is at `sample`."""
        return sample // self._group_length % 2

    def next_switch(self, sample):
        """Return the first sample after `sample` at which the group changes."""
        return (sample // self._group_length + 1) * self._group_length

    def _after(self, sample):
        return sample + max(self._lead + 1, round(self._intervals.uniform(*self._interval)))


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
