"""A source whose signal is spoiled on purpose at given times: for rehearsals and tests.

Everything is on the sample clock, so a rehearsal can be repeated to the sample. What it reports is what a
live source would.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np

from sleep_interpreter.realtime.Parameters.settings import Fault
from sleep_interpreter.realtime.Sources.source import Input, Source
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.channel_names import find_channel, hint

_RAIL_UV = 3000.0


def add_faults(source: Source, faults: Sequence[Fault]) -> Source:
    """Return the source with faults in what it delivers."""
    return cast(Source, _FaultySource(source, faults))


class _FaultySource:
    def __init__(self, source: Source, faults: Sequence[Fault]) -> None:
        self._source = source
        spans = [(round(f.start * STREAM_RATE), round((f.start + f.seconds) * STREAM_RATE)) for f in faults]
        self._faults = list(zip(faults, spans, strict=True))
        self._inputs: list[Input] = []
        self._reported: set[tuple[str, int]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def open(self, picks: Sequence[str]) -> None:
        self._source.open(picks)
        self._rows: dict[int, list[int]] = {}
        for fault, _ in self._faults:
            for name in fault.channels:
                found = find_channel(name, picks)
                if found is None:
                    raise UserError(f"faults: channel {name!r} is not used in this session ({hint(name, picks)})")
                self._rows.setdefault(id(fault), []).append(list(picks).index(found))

    def take_inputs(self) -> list[Input]:
        own, self._inputs = self._inputs, []
        return [*self._source.take_inputs(), *own]

    def chunks(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[np.ndarray]:
        """Deliver the source's chunks, cut where a fault begins or ends, with the faults in them."""
        position = 0
        edges = sorted({edge for _, span in self._faults for edge in span})
        for chunk in self._source.chunks(stopped):
            stop = position + chunk.shape[1]
            cuts = [position, *(e for e in edges if position < e < stop), stop]
            for first, last in pairwise(cuts):
                piece = chunk[:, first - position : last - position].copy()
                for fault, (begin, end) in self._faults:
                    self._report(fault, begin, end, first)
                    if begin <= first < end and last > first:
                        self._spoil(piece, fault, first)
                yield piece
            position = stop

    def _report(self, fault: Fault, begin: int, end: int, first: int) -> None:
        """Report what a live source would report of lost or stalled streams."""
        if fault.kind not in ("lost", "dropped", "stalled"):
            return
        for state, edge in ((fault.kind, begin), ("back", end)):
            if edge > first or (state, id(fault)) in self._reported:
                continue
            self._reported.add((state, id(fault)))
            seconds = {} if state == "back" else {"seconds": fault.seconds}
            if fault.kind != "dropped":
                self._inputs.append(("stream", {"state": state, **seconds}))
            if state in ("lost", "dropped"):
                self._inputs.append(("gap", {"seconds": fault.seconds, "first": begin, "count": end - begin}))

    def _spoil(self, piece: np.ndarray, fault: Fault, first: int) -> None:
        if fault.kind in ("lost", "dropped"):
            piece[:] = np.nan
        rows = self._rows.get(id(fault), [])
        if fault.kind == "flat":
            piece[rows] = 0.0
        elif fault.kind == "railed":
            piece[rows] = _RAIL_UV
        elif fault.kind == "nan":
            piece[rows] = np.nan
        elif fault.kind == "loud":
            piece[rows] *= 1000
        elif fault.kind == "line":
            t = (first + np.arange(piece.shape[1])) / STREAM_RATE
            piece[rows] = 200 * np.sin(2 * np.pi * 50 * t)
