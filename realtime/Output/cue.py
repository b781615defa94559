"""A cue, as schedules decide it, sinks play it and the log names it."""

from dataclasses import dataclass
from typing import Any

from sleep_interpreter.utils.core.constants import ITEMS


@dataclass(frozen=True)
class Cue:
    """One cue: its number in the session, item, group and onset as a sample index.

    `locked`: it waited for a phase of the slow oscillation and found it; `skipped`: why it is not played;
    `gain_db`: its sound's own gain; `sham`: it is logged and decoded like a cue, but nothing sounds.
    """

    number: int
    item: int
    group: int
    onset: int
    recorded: bool = False
    locked: bool = False
    skipped: str | None = None
    gain_db: float = 0.0
    sham: bool = False

    def log_fields(self) -> dict[str, Any]:
        """Return what every entry of the log says of the cue that it is about."""
        return {"number": self.number, "item": ITEMS[self.item], "group": self.group}
