"""A source whose signal is spoiled on purpose at given times: for rehearsals and tests.

Everything is on the sample clock, so a rehearsal can be repeated to the sample. What it reports is what a
live source would.
"""

from itertools import pairwise

import numpy as np

from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.channel_names import find_channel, hint

_RAIL_UV = 3000.0


class FaultySource:
    """Another source, with faults.

    Parameters
    ----------
    source : object
        Any source.
    faults : sequence of sleep_interpreter.realtime.Parameters.faults.Fault
    """

    def __init__(self, source, faults):
        self._source, self._faults = source, faults
        self._inputs, self._told = [], set()

    def __getattr__(self, name):
        return getattr(self._source, name)

    def open(self, picks):
        """Choose the channels to deliver.

        Raises
        ------
        UserError
            A fault names a channel that is not among them.
        """
        self._source.open(picks)
        self._rows = {}
        for fault in self._faults:
            for name in fault.channels:
                found = find_channel(name, picks)
                if found is None:
                    raise UserError(
                        f"faults: channel {name!r} is not used in this session ({hint(name, picks)})"
                    )
                self._rows.setdefault(id(fault), []).append(list(picks).index(found))

    def take_inputs(self):
        """Return [(kind, detail)] since the last call."""
        own, self._inputs = self._inputs, []
        return [*getattr(self._source, "take_inputs", list)(), *own]

    def chunks(self, stopped=lambda: False):
        """Deliver the source's chunks, cut where a fault begins or ends, with the faults in them."""
        position = 0
        edges = sorted({s for f in self._faults for s in self._span(f)})
        for chunk in self._source.chunks(stopped):
            stop = position + chunk.shape[1]
            cuts = [position, *(e for e in edges if position < e < stop), stop]
            for first, last in pairwise(cuts):
                piece = chunk[:, first - position : last - position].copy()
                for fault in self._faults:
                    begin, end = self._span(fault)
                    self._tell(fault, begin, end, first)
                    if begin <= first < end and last > first:
                        self._spoil(piece, fault, first)
                yield piece
            position = stop

    def _span(self, fault):
        return round(fault.start * STREAM_RATE), round((fault.start + fault.seconds) * STREAM_RATE)

    def _tell(self, fault, begin, end, first):
        """Report what a live source would report of lost or stalled streams."""
        if fault.kind == "lost" and begin <= first and ("gap", id(fault)) not in self._told:
            self._told.add(("gap", id(fault)))
            gap = {"seconds": fault.seconds, "first": begin, "count": end - begin}
            self._inputs += [("stream", {"state": "lost", "seconds": fault.seconds}), ("gap", gap)]
        if fault.kind == "stalled" and begin <= first and ("stall", id(fault)) not in self._told:
            self._told.add(("stall", id(fault)))
            self._inputs.append(("stream", {"state": "stalled", "seconds": fault.seconds}))
        if fault.kind in ("lost", "stalled") and end <= first and ("back", id(fault)) not in self._told:
            self._told.add(("back", id(fault)))
            self._inputs.append(("stream", {"state": "back"}))

    def _spoil(self, piece, fault, first):
        if fault.kind == "lost":
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
