"""Faults that are injected on purpose, to rehearse a bad night."""

from typing import Literal

from pydantic import Field, model_validator

from sleep_interpreter.utils.core.config import Settings


class Fault(Settings):
    """One fault: what, from when on, for how long, on which channels.

    flat, railed, nan, loud (a thousand times too large) and line (nothing but line noise) spoil channels;
    lost takes samples away as a gap; stalled tells of a stream that stands still and then gives everything.
    """

    kind: Literal["flat", "railed", "nan", "loud", "line", "lost", "stalled"]
    start: float = Field(ge=0)
    seconds: float = Field(gt=0)
    channels: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self):
        spoils = self.kind not in ("lost", "stalled")
        if spoils != bool(self.channels):
            raise ValueError(f"kind {self.kind!r} {'needs channels' if spoils else 'concerns all channels'}")
        return self
