"""The raw stream on disk: append-only BrainVision, on the disk once a second, readable at any moment."""

import logging
import math
import re
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from sleep_interpreter.realtime.Parameters.source import RecordingSettings
from sleep_interpreter.realtime.Recording.event_log import RESERVE
from sleep_interpreter.utils.core.config import read_yaml
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.own_folder import own_folder
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.provenance import MARK
from sleep_interpreter.utils.signal.brainvision_writer import BrainVisionWriter

logger = logging.getLogger(__name__)

GAP_KIND, GAP_TEXT = "BAD_ACQ_SKIP", "gap"
"""Marker of lost samples. MNE's filters leave out what is annotated "BAD_ACQ_SKIP/..."."""
PLACE = "first sample of the stream:"
"""Marker at a segment's begin, with a number: where in the session's stream the segment lies."""
LOCAL_TIME = r"Times are local, UTC([+-]\d{4})"
"""What the header says of the time of a recording's begin."""
_RETRY_SECONDS = 10.0
"""Seconds between two attempts to record again after a failure."""
_ROOM_SECONDS = 10.0
"""A disk is taken again once it has room for so much, ..."""
_LOG_BYTES = 2**21
"""... and for the log, where that has used up its own reserve."""
_SYNCS = 3600
"""Durations of the newest syncs that are kept."""


_MARK = "second_folder.id"
"""Holds the same in recording/ of a session and in its second place, so that no other folder passes for that."""


def second_place(session: Path, second_folder: str) -> Path:
    """Return where the recording of a session's folder goes on when its own disk is full."""
    session = session.resolve()
    return Path(second_folder) / f"{session.parent.name}_{session.name}"


def places(folder: str | Path) -> list[Path]:
    """Return the folders in which a session's recording may be: its own, and the one for when that disk was full.

    The second one lies outside of the session's folder, which somebody else may have made. It counts where it holds
    the session's own mark; other segments there are a `UserError`.
    """
    folder = Path(folder)
    settings, recording = folder / "settings.yaml", folder / "recording"
    own = read_yaml(settings).get("recording") if settings.is_file() else None
    named = own.get("second_folder") if isinstance(own, dict) else None
    if not isinstance(named, str) or "\0" in named:
        return [recording]
    second = second_place(folder, named)
    if _is_of(second, recording):
        return [recording, own_folder(second)]
    if second.is_dir() and any(second.glob("segment_*")):
        raise UserError(
            f"{display_path(settings)}: recording.second_folder leads to {second}, whose segments do not tell that "
            f"they are of this session ({_MARK}): if they are, move them into {display_path(recording)}; if not, take "
            "that line out"
        )
    return [recording]


def _is_of(second: Path, recording: Path) -> bool:
    """Tell whether a second place has the mark of the session to which `recording` belongs."""
    marks = [place / _MARK for place in (second, recording)]
    if not all(mark.is_file() and not mark.is_symlink() for mark in marks):
        return False
    one, other = (mark.read_bytes()[:100] for mark in marks)
    return one == other and re.fullmatch(rb"[0-9a-f]{32}\n", one) is not None


def _has_room(place: Path, needed: float) -> bool:
    """Tell whether the disk of a folder takes so many bytes more and leaves room for the session's log."""
    log = place.parent / "log.jsonl"
    if log.exists() and not log.with_name(RESERVE).exists():
        needed += _LOG_BYTES
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free >= needed


def _mark(second: Path, recording: Path) -> bool:
    """Make a session's second place, and mark both as of one session; tell whether that could be done."""
    text, reason = secrets.token_hex(16) + "\n", "it holds files already"
    try:
        second.mkdir(parents=True, exist_ok=True)
        if all(path.name == _MARK for path in second.iterdir()):  # of a session that is no more
            for place in (second, recording):
                place.mkdir(parents=True, exist_ok=True)
                (place / _MARK).write_text(text, encoding="ascii")
            return True
    except OSError as error:
        reason = error.strerror or str(error)
    logger.warning("WARNING: recording.second_folder: nothing can be recorded in %s: %s", second, reason)
    return False


class Recorder:
    """Record all channels as they come into `folder`, recording/ of a session; go on in a new segment after a failure.

    Samples are handed to the system at once, so that they outlive the process; a thread brings them to the disk once
    a second, so that a slow disk holds up nobody. A disk that is full is given up for `settings.second_folder`, if
    there is one; where a session goes on (`resumed`), only for one that holds its mark. `rate` is in Hz, `start` the
    time of the first sample and `first` its place in the session's stream, in samples of the stream's own rate; a
    recording of a `simulated` stream says so.

    Of the newest segment, `path` is the header, `acknowledged` how many samples are on the disk whatever happens now,
    and `bytes` their length; `missed` are the samples that were recorded nowhere. `syncs` are how long the newest syncs
    took, s.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], rate: float, settings: RecordingSettings, *,
        simulated: bool = False, start: datetime | None = None, first: int = 0, resumed: bool = False,
    ) -> None:  # fmt: skip
        self._folder, self._names, self._rate, self._settings = folder, tuple(names), rate, settings
        self._simulated = simulated
        self._inputs: list[tuple[str, dict[str, Any]]] = []
        self.bytes_per_second = 4 * len(self._names) * rate
        self.syncs: deque[float] = deque(maxlen=_SYNCS)
        self._position, self._missed, self.missed = first, 0, 0
        self._places = [folder]
        if settings.second_folder is not None:
            second = second_place(folder.parent, settings.second_folder)
            if _is_of(second, folder) or (not resumed and _mark(second, folder)):
                self._places.append(second)
            elif resumed:
                logger.warning("%s does not tell that it is of this session: nothing is recorded there", second)
        self._failed_at: float | None = None
        self._tried = -math.inf  # when last to go on
        self._asked = 0.0  # when the last sync was
        self._due, self._ending = threading.Event(), False
        self._sync_error: tuple[BrainVisionWriter, Exception] | None = None
        self._open(folder, start)
        self._thread = threading.Thread(target=self._sync, name="recording to disk", daemon=True)
        self._thread.start()

    @property
    def missed_seconds(self) -> float:
        """What was recorded nowhere, s."""
        return self.missed / self._rate

    def append(self, data: np.ndarray) -> None:
        """Append (channels, n) float32 µV; a disk that fails is reported, not raised."""
        self._attempt(lambda: self._writer.append(data), data.shape[1])

    def gap(self, count: int) -> None:
        """Append `count` samples that were lost: zeros under a marker of the gap's length."""

        def write() -> None:
            self._writer.marker(self._writer.n_samples, GAP_TEXT, count, GAP_KIND)
            self._writer.skip(count)

        self._attempt(write, count)

    def marker(self, text: str) -> None:
        """Append a marker at the newest sample."""
        self._attempt(lambda: self._writer.marker(max(0, self._writer.n_samples - 1), text), 0)

    def sync_when_due(self) -> None:
        """Have everything brought to the disk when it is time to; try again after a failure."""
        now = time.monotonic()
        self._check_thread()
        if self._failed_at is not None:
            # a second place is gone on in at once, where that is no place that has just failed
            if now - max(self._tried, self._failed_at if len(self._places) == 1 else 0.0) >= _RETRY_SECONDS:
                self._retry(now)
        elif now - self._asked >= self._settings.sync_seconds:
            self._asked = now
            self._due.set()

    def flush(self) -> None:
        """Bring everything to the disk, and wait for it."""
        self._check_thread()
        if self._failed_at is None:
            self._attempt(self._writer.sync, 0)
            if self._failed_at is None:
                self._acknowledge(self._writer, self._writer.n_samples)

    def take_inputs(self) -> list[tuple[str, dict[str, Any]]]:
        """Return [("recorder", {"state", "reason"})] since the last call."""
        found, self._inputs = self._inputs, []
        return found

    def close(self) -> None:
        """Finish the segment."""
        if self._ending:
            return
        self._ending = True
        self._due.set()
        self._thread.join(30)
        self.flush()
        if self._failed_at is None:
            self._attempt(self._writer.close, 0)
        for place in self._places[1:]:
            with suppress(OSError):  # what was never needed goes
                if [path.name for path in place.iterdir()] == [_MARK]:
                    (place / _MARK).unlink()
                    place.rmdir()

    def _open(self, place: Path, start: datetime | None = None) -> None:
        place.mkdir(parents=True, exist_ok=True)
        there = [path for folder in self._places if folder.is_dir() for path in folder.iterdir()]
        taken = [int(m[1]) for path in there if (m := re.match(r"segment_(\d+)\.", path.name))]
        path = place / f"segment_{max(taken, default=0) + 1:03d}.vhdr"
        comment = "Recorded by Sleep Interpreter; µV as received."
        start = (start or datetime.now()).astimezone()
        comment += f"\n{local_time(start)}"
        writer = BrainVisionWriter(path, self._names, self._rate, start=start, comment=comment, live=True, finite=False)
        try:
            writer.marker(0, f"{PLACE} {self._position}")
            if self._simulated:
                writer.marker(0, MARK)
            writer.sync()
        except OSError:
            writer.discard()
            raise
        self._writer, self.path = writer, path
        self.acknowledged, self.bytes, self._asked = 0, 0, time.monotonic()

    def _sync(self) -> None:
        """Bring the recording to the disk whenever it is due: a thread."""
        while not self._ending:
            self._due.wait()
            self._due.clear()
            writer = self._writer
            count, began = writer.n_samples, time.perf_counter()
            try:
                writer.sync()
            except (OSError, ValueError) as error:  # ValueError: given up meanwhile
                self._sync_error = (writer, error)
                continue
            self.syncs.append(time.perf_counter() - began)
            self._acknowledge(writer, count)

    def _acknowledge(self, writer: BrainVisionWriter, count: int) -> None:
        if writer is self._writer:
            self.acknowledged = max(self.acknowledged, count)
            self.bytes = self.acknowledged * 4 * len(self._names)

    def _check_thread(self) -> None:
        """Take what went wrong in the thread."""
        found, self._sync_error = self._sync_error, None
        if found is not None and found[0] is self._writer and self._failed_at is None:
            self._fail(found[1], 0)

    def _attempt(self, action: Callable[[], None], samples: int) -> None:
        self._position += samples
        if self._failed_at is not None:
            self._missed += samples
            self.missed += samples
            return
        try:
            action()
        except OSError as error:
            self._fail(error, samples)

    def _fail(self, error: Exception, samples: int) -> None:
        # what the writer took is in the file unless the disk itself is broken
        self._failed_at, self._missed = time.monotonic(), samples
        self.missed += samples
        self._writer.abandon()
        text = f"{self.path.name} cannot be written: {getattr(error, 'strerror', None) or error}"
        if len(self._places) == 1:
            text += "; make room (or next time name a second place: recording.second_folder)"
        logger.error("%s; %d samples of it are safe", text, self.acknowledged)
        self._inputs.append(("recorder", {"state": "failed", "reason": text}))

    def _retry(self, now: float) -> None:
        self._tried = now
        for place in self._places:
            try:
                if _has_room(place, _ROOM_SECONDS * self.bytes_per_second):
                    self._open(place)
                    break
            except (OSError, UserError) as error:
                logger.debug("recording again: %s", error)
        else:
            return
        self._failed_at = None
        where = self.path.name if place == self._folder else self.path
        text = f"recording goes on in {where}; {self._missed / self._rate:.1f} s were not recorded"
        logger.warning("%s", text)
        self._inputs.append(("recorder", {"state": "back", "reason": text}))


def local_time(begin: datetime) -> str:
    """Return in words which zone's time a recording's begin is given in (`LOCAL_TIME`)."""
    return f"Times are local, UTC{begin:%z}."
