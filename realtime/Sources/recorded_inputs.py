"""What enters a session besides samples, and how a replay gives it again.

Commands of the operator, a stream that stalls, an answer that comes late: each is taken at a sample and
logged with it. `ReplayedInputs` reads them back from a log, so that a replay of the session's recording meets
the same inputs at the same samples and decides the same.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

_TAKEN = ("command", "gap", "stream", "no_sound", "recording")
"""Events that are inputs as they stand."""


class ReplayedInputs:
    """The inputs among the events of a log.jsonl from sample `start` on, for a replay; empty, and not `replaying`,
    for a session of its own.

    By the sample at which the stager was asked: `taken`, when its estimate was; `faults`, why it gave none; `skipped`,
    where it was still busy and not asked. `begun` are the cues that had begun to sound when cueing was paused.
    """

    def __init__(self, events: Sequence[dict[str, Any]] = (), start: int = 0) -> None:
        self.replaying = bool(events)
        later = [e for e in events if e["sample"] >= start]
        inputs = [(e["sample"], e["event"], e["detail"]) for e in later if e["event"] in _TAKEN]
        self._inputs = deque(sorted(inputs, key=lambda entry: entry[0]))
        stages = [e for e in later if e["event"] == "stage"]
        self.taken = {e["sample"]: e["detail"]["taken"] for e in stages}
        self.faults = {e["sample"]: e["detail"]["reason"] for e in stages if e["detail"].get("fault")}
        self.skipped = {e["sample"] for e in later if e["event"] == "stage_skipped"}
        self.begun = {n for e in later if e["event"] == "begun" for n in e["detail"]["numbers"]}

    @property
    def due(self) -> int | None:
        """Sample of the next input; None when there is none left."""
        return self._inputs[0][0] if self._inputs else None

    def pop_due(self, now: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (event, detail) of the inputs up to sample `now`."""
        while self._inputs and self._inputs[0][0] <= now:
            _, event, detail = self._inputs.popleft()
            yield event, detail
