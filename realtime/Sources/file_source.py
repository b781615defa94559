"""A recorded file as the stream: read lazily, checked, paced, in µV at the stream's rate."""

import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np

from sleep_interpreter.data.preparation.settings import Events, TriggerTable
from sleep_interpreter.realtime.Parameters.source import SourceSettings
from sleep_interpreter.realtime.Sources.source import Plan, Source
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.data_card import DataCard, published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.provenance import is_simulated
from sleep_interpreter.utils.signal import units as amplitude
from sleep_interpreter.utils.signal.channel_names import listed
from sleep_interpreter.utils.signal.recording import RateGroup, Recording
from sleep_interpreter.utils.signal.resample import Merger, ratio

LOWEST_RATE = 100
"""Hz; below it neither staging nor decoding has the band that it needs."""
_CUE = re.compile(r"(?:[^/]+/)?cue/(.+)", re.IGNORECASE)  # MNE prefixes BrainVision's with "Comment/"
_POLL = 0.02
"""Seconds after which it is asked again whether the session is to end, while the source waits."""


class ReplaySource(Source):
    """A recording of any format of `mne.io.read_raw`, delivered as the amplifier would.

    Every channel is read at its own sampling rate and resampled on its own sample clock, so that neither channels
    that are not used nor the way the file is cut into reads can change a sample. A session that goes on begins `skip`
    samples at 500 Hz after `settings.start`. `gaps` are (first sample of the recording, number of samples) that the
    stream lacked, NaN there; cues in its annotations are of the items of `card` (None: the published one).
    `rates` begin with the highest rate. A `UserError` says that the file is missing, unreadable or without data, or
    that nothing lies between start and stop.
    """

    takes_recording = True

    def __init__(
        self, path: str | Path, settings: SourceSettings, skip: int = 0, gaps: Sequence[tuple[int, int]] = (),
        card: DataCard | None = None,
    ) -> None:  # fmt: skip
        self.path = Path(path)
        self._card = published() if card is None else card
        self.real_time = settings.speed == 1
        if skip:
            settings = settings.model_copy(update={"start": settings.start + skip / STREAM_RATE})
        self._skip, self._gaps = skip / STREAM_RATE, tuple(gaps)
        self.where = display_path(path)
        folder = self.path.resolve().parent
        # a data set keeps its recordings in a folder of that name, and its mark beside that folder
        self.simulated = is_simulated(self.path, *([folder.parent] if folder.name == "recordings" else []))
        self.settings = settings
        self._recording = Recording(self.path)
        self.names = self._recording.names
        self.notices = list(self._recording.notices)
        if settings.start >= self._recording.seconds:
            raise UserError(
                f"{self.path}: source.start = {settings.start} s; the recording ends at {self._recording.seconds:.1f} s"
            )
        self._started: float | None = None

    @classmethod
    def for_session(cls, settings: SourceSettings, plan: Plan) -> Self:
        if plan.recording is None:
            raise UserError("--source replay needs --recording FILE")
        return cls(plan.recording, settings, plan.skipped, plan.gaps, plan.card)

    def open(self, picks: Sequence[str]) -> None:
        """Choose the channels, and find a begin at which all of them have a sample."""
        self._picks = list(picks)
        self._groups = self._recording.groups(self._picks)
        self.rates = {g.rate: tuple(self._picks[p] for p in g.places) for g in self._groups}
        self._check_rates()
        settings, exact = self.settings, [_exact(rate) for rate in self.rates]
        if len(exact) == 1:
            begin = round(settings.start * exact[0]) / exact[0]
        else:
            # all channels must have a sample there: a whole multiple of every sampling period
            step = Fraction(
                math.lcm(*(rate.denominator for rate in exact)), math.gcd(*(rate.numerator for rate in exact))
            )
            begin = Fraction(settings.start) // step * step
        self._first = [int(begin * rate) for rate in exact]
        self.begins = float(begin) - self._skip
        if abs(float(begin) - settings.start) > 5e-4:
            text = f"the replay begins at {float(begin):g} s, where every channel has a sample"
            self.notices.append((logging.INFO, text))
        last = math.inf if settings.stop is None else settings.stop
        ends = [min(round(min(last, g.length / g.rate) * g.rate), g.length) / g.rate for g in self._groups]
        self.seconds = min(ends) - float(begin)
        if min(round(self.seconds * rate) for rate in self.rates) < 1:
            raise UserError(
                f"{self.path}: there is no sample between source.start = {settings.start} s "
                f"and source.stop = {settings.stop} s"
            )

    def check_unit(self, rows: Sequence[int], what: str = "EEG", others_fit: bool = False) -> float:
        """Refuse amplitudes, in windows of 30 s spread over the recording, that cannot be µV."""
        return amplitude.check(
            self._amplitude(rows), self.settings.unit, self.settings.amplitude_range, display_path(self.path), what,
            others_fit, limit="source.amplitude_range",
        )  # fmt: skip

    def cues(self, table: TriggerTable | None = None) -> list[tuple[float, int]]:
        """Return [(seconds since the start of the replay, item)] of the annotations that are cues.

        These are "cue/<item>" or, by `table`, the triggers whose modality is cue.
        """
        events = self._cue_annotations() if table is None else self._triggered_cues(table)
        found = [(seconds - self.begins, item) for seconds, item in events]
        found = [(seconds, item) for seconds, item in found if self._skip <= seconds < self._skip + self.seconds]
        if not found:
            what = 'annotation "cue/<item>"' if table is None else f"cue of {table.file}"
            lab = " (triggers of your own: cues.table)" if table is None else ""
            raise UserError(
                f"{self.path}: --cues recorded, but the recording holds no {what} in the part that is replayed{lab}; "
                "use --cues scheduled"
            )
        return sorted(found)

    def _cue_annotations(self) -> list[tuple[float, int]]:
        """Return (seconds in the recording, item) of the annotations "cue/<item>"."""
        annotations, found = self._recording.annotations, []
        # MNE counts onsets from the measurement's start, which may lie before the first sample.
        shift = self._recording.first_time
        for onset, text in zip(annotations.onset, annotations.description, strict=True):
            if (match := _CUE.fullmatch(str(text).strip())) is None:
                continue
            try:
                found.append((float(onset) - shift, self._card.item_index(match[1])))
            except ValueError as error:
                hint = str(error).partition("; ")[2]
                raise UserError(f"{self.path}: annotation {text!r} names no item; {hint}") from None
        return found

    def _triggered_cues(self, table: TriggerTable) -> list[tuple[float, int]]:
        """Return (seconds in the recording, item) of the annotations that a table calls cues."""
        try:
            from sleep_interpreter.data.preparation.events import read_events  # lazy: optional dependency
            from sleep_interpreter.data.preparation.inputs import Session  # lazy: optional dependency
        except ModuleNotFoundError as error:
            raise UserError(f"the package {error.name} is not installed: pip install -e '.[prepare]'") from None
        settings = Events(table=table, rules=())
        session = Session(self.path.stem, "sleep", self.path)
        events, _ = read_events(session, self._recording, self._recording.annotations, settings, card=self._card)
        cues = events[events.modality == "cue"]
        return list(zip(cues.onset_s.astype(float), cues.item_index.astype(int), strict=True))

    def fingerprint(self) -> dict[str, Any]:
        """Return name, size and a hash: SHA-256 of size, first and last MiB of every file."""
        return self._recording.fingerprint()

    def time_of(self, seconds: float) -> float | None:
        if self._started is None or self.settings.speed == 0:
            return None
        return self._started + seconds / self.settings.speed

    def chunks(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[np.ndarray]:
        merger = Merger([(g.rate, g.places) for g in self._groups], STREAM_RATE)
        self._started, settings = time.perf_counter(), self.settings
        usual = 0.05 if settings.speed > 0 else settings.read_seconds
        chunk = usual if settings.chunk_seconds is None else settings.chunk_seconds
        for begin, end in _steps(0.0, self.seconds, self.settings.read_seconds):
            if stopped():
                return
            span = [(self._index(k, begin), self._index(k, end)) for k in range(len(self._groups))]
            blocks = [self._load(g, *indices) for g, indices in zip(self._groups, span, strict=True)]
            for start, stop in _steps(begin, end, chunk):
                self._wait(self.time_of(stop), stopped)
                if stopped():
                    return
                parts = [
                    block[:, self._index(k, start) - span[k][0] : self._index(k, stop) - span[k][0]]
                    for k, block in enumerate(blocks)
                ]
                yield merger.push(parts).astype(np.float32)  # what a live source delivers, to the bit

    def _check_rates(self) -> None:
        for rate, names in self.rates.items():
            where = f"{display_path(self.path)}: {listed(names)}"
            if rate < LOWEST_RATE:
                raise UserError(
                    f"{where}: sampling rate {rate:g} Hz; staging and decoding need at least "
                    f"{LOWEST_RATE} Hz: choose other channels, "
                    "or do without an EOG or EMG with --set channels.eog=null or --set channels.emg=null"
                )
            try:
                ratio(rate, STREAM_RATE)
            except UserError as error:
                raise UserError(f"{where}: {error}") from None

    def _index(self, group: int, seconds: float) -> int:
        """Return the number of the sample, in the file, of group `group` at that time of the replay."""
        return self._first[group] + round(seconds * self._groups[group].rate)

    def _wait(self, due: float | None, stopped: Callable[[], bool]) -> None:
        while due is not None and not stopped() and (left := due - time.perf_counter()) > 0:
            time.sleep(min(left, _POLL))

    def _load(self, group: RateGroup, start: int, stop: int) -> np.ndarray:
        data = self._read(group, start, stop)
        for first, count in self._gaps:
            if first < stop and start < first + count:
                data[:, max(0, first - start) : first + count - start] = np.nan
        return (data * amplitude.TO_MICROVOLT[self.settings.unit]).astype(np.float32)

    def _read(self, group: RateGroup, start: int, stop: int, places: Sequence[int] | None = None) -> np.ndarray:
        try:
            return group.read(start, stop, places)
        except (OSError, ValueError, RuntimeError) as error:
            at = f"{start / group.rate:.1f} s of the file"
            raise UserError(f"{self.path}: cannot be read at {at}: {error}") from error

    def _amplitude(self, rows: Sequence[int]) -> float:
        """Return the typical SD in the reader's own unit, over windows spread over the replayed part."""
        deviations = []
        for k, group in enumerate(self._groups):
            places = [row for row in rows if row in group.places]
            if not places:
                continue
            first, last = self._index(k, 0), self._index(k, self.seconds)
            length = min(round(30 * group.rate), last - first)
            count = min(self.settings.amplitude_windows, max(1, (last - first) // length))
            for start in np.linspace(first, last - length, count).round().astype(int):
                deviations += amplitude.deviations(self._read(group, start, start + length, places))
        if not deviations:
            names = listed([self._picks[row] for row in rows])
            raise UserError(f"{self.path}: {names}: no window of 30 s holds finite samples only")
        return float(np.median(deviations))


def _exact(rate: float) -> Fraction:
    """Return a rate in Hz as the fraction that its conversion uses."""
    up, down = ratio(rate, STREAM_RATE)
    return Fraction(STREAM_RATE) * down / up


def _steps(begin: float, end: float, step: float) -> Iterator[tuple[float, float]]:
    """Yield (start, stop) that cover [begin, end) in steps."""
    count = max(1, math.ceil((end - begin) / step - 1e-9))
    for k in range(count):
        yield begin + k * step, end if k == count - 1 else begin + (k + 1) * step
