"""What a session is doing now, as one dict: for the monitor and control clients."""

import base64
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from sleep_interpreter.realtime.Control.control_server import Control
from sleep_interpreter.realtime.Session.cueing import CueController
from sleep_interpreter.realtime.Session.decoding import ResponseDecoding
from sleep_interpreter.realtime.Session.session_context import SessionContext, rounded, stage_name
from sleep_interpreter.realtime.Session.signal_monitor import SignalMonitor
from sleep_interpreter.realtime.Session.staging import OnlineStaging
from sleep_interpreter.utils.core.constants import STREAM_RATE

_ALARMS = {"stalled": "no samples", "lost": "stream lost", "refused": "stream refused", "behind": "samples late"}


class SessionStatus:
    """Tell the state of a session from its parts.

    `stream` has `state`, `gaps` and `lost_samples` of the stream, kept by the session; `about` has `session`,
    `subject`, `simulated`, `dry_run`, `folder` (Path).
    """

    def __init__(
        self, context: SessionContext, cueing: CueController, staging: OnlineStaging, decoding: ResponseDecoding,
        signal_monitor: SignalMonitor, stream: dict[str, Any], about: dict[str, Any],
    ) -> None:  # fmt: skip
        self._context, self._cueing, self._staging, self._decoding = context, cueing, staging, decoding
        self._signal_monitor, self._stream, self._about = signal_monitor, stream, about
        self._alarms: dict[str, str] = {}  # kind: since when
        self._faults: dict[str, str] = {}  # part: reason

    def fault(self, part: str, state: str, reason: str) -> None:
        """Take note of a part that failed or works again."""
        if state == "back":
            self._faults.pop(part, None)
        elif state != "set":  # a clock that was set has happened, and is over
            self._faults[part] = reason

    def snapshot(self) -> dict[str, Any]:
        """Return the state (docs/monitor.md lists its keys)."""
        context, cueing, staging, decoding = self._context, self._cueing, self._staging, self._decoding
        gate, settings = staging.gate, context.settings
        age, recording = staging.age(), self._recording()
        return {
            "sample": context.sample,
            "seconds": round(context.seconds(context.sample), 2),
            "clock": datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
            "stage": stage_name(gate.stage),
            "probabilities": rounded(gate.probabilities),
            "reason": staging.reason,
            "gate": gate.open,
            "cueing": cueing.active,
            "blocked": [] if cueing.active else (cueing.block_reasons() or "").split("; "),
            "volume_db": round(context.sink.volume_db, 2),
            "max_db": settings.audio.max_db,
            "group": cueing.schedule.group(context.sample),
            "cues": dict(cueing.counts),
            "shams": cueing.shams,
            "silent": cueing.silent,
            "decodes": dict(decoding.counts),
            "last_decode": decoding.last,
            "quality": {name: self._signal_monitor.faults.get(name) for name in context.montage.picks},
            "stream": {**self._stream, "latency_ms": round(context.latency() * 1e3, 1)},
            "recording": recording,
            "stager": {
                "age_seconds": None if age is None else round(age, 1),
                "latency_ms": None if staging.latency is None else round(staging.latency * 1e3, 1),
                "late": staging.late,
            },
            "audio": {"lost": context.sink.lost},
            "ports": {"names": [] if context.ports is None else context.ports.names},
            "phase": {
                "target": settings.cues.lock.target_degrees,
                "locked": settings.cues.lock.method != "none",
                "degrees": list(cueing.phases_degrees)[-200:],
                "from": settings.cues.lock.phase_from,
            },
            "alarms": self._current_alarms(age, recording),
            "items": list(context.card.item_names),
            "channels": list(context.montage.picks),
            "derivations": {name: [*filter(None, pair)] for name, pair in context.montage.derived.items()},
            "amplifier": context.source.amplifier,
            "planned_end": self._planned_end(),
            "offered": context.source.offered,
            **{key: self._about[key] for key in ("session", "subject", "simulated")},
            "dry_run": bool(self._about.get("dry_run")),
        }

    def _planned_end(self) -> str | None:
        """Return the local time at which the source ends; None where it does not, or time is not paced."""
        source = self._context.source
        ends = None if source.seconds == float("inf") else source.time_of(source.seconds)
        if ends is None:
            return None
        seconds = timedelta(seconds=ends - time.perf_counter())
        return (datetime.now(UTC) + seconds).astimezone().isoformat(timespec="seconds")

    def _recording(self) -> dict[str, Any]:
        recorder = self._context.source.recorder
        try:
            free = shutil.disk_usage(self._about["folder"]).free
        except OSError:
            free = None
        left = None if recorder is None or free is None else round(free / recorder.bytes_per_second / 60, 1)
        return {
            "file": None if recorder is None else recorder.path.name,
            "bytes": None if recorder is None else recorder.bytes,
            "acknowledged_samples": None if recorder is None else recorder.acknowledged,
            "free_bytes": free,
            "lost_seconds": None if recorder is None else round(recorder.missed_seconds, 1),
            "minutes_left": left,
        }

    def _current_alarms(self, age: float | None, recording: dict[str, Any]) -> list[dict[str, str]]:
        settings, found = self._context.settings.staging, {}
        state = self._stream["state"]
        if state in _ALARMS:
            found["stream"] = self._context.source.offered or _ALARMS[state]
        if age is not None and age > settings.silent_seconds + settings.every_seconds:
            found["stager"] = f"no stage for {age:.0f} s"
        bad = sorted(self._signal_monitor.faults)
        if bad:
            more = "" if len(bad) < 4 else f" and {len(bad) - 3} more"
            found["quality"] = f"{', '.join(bad[:3])}{more}: bad signal"
        if recording["minutes_left"] is not None and recording["minutes_left"] < 60:
            found["disk"] = f"disk full in {recording['minutes_left']:.0f} min"
        found |= self._faults
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._alarms = {kind: self._alarms.get(kind, now) for kind in found}
        return [{"kind": k, "text": found[k], "since": since} for k, since in self._alarms.items()]


class OperatorPanel:
    """Brings signal and state of a session to the readers of its control server, which has the requests."""

    _STATE_SECONDS = 0.2
    _FEED_RATE = 100

    def __init__(self, control: Control) -> None:
        self.control = control
        self._published = 0.0
        self._chunks: list[np.ndarray] = []
        self._first = 0  # sample of the session at which they begin

    def publish(self, context: SessionContext, chunk: np.ndarray, status: Callable[[], dict[str, Any]]) -> None:
        """Give the readers the newest signal and, five times a second, the state."""
        if not self.control.watched:
            self._chunks = []
            return
        if chunk.shape[1]:
            if not self._chunks:
                self._first = context.sample - chunk.shape[1]
            self._chunks.append(chunk)
        now = time.monotonic()
        if now - self._published < self._STATE_SECONDS:
            return
        self._published = now
        step = round(STREAM_RATE / self._FEED_RATE)
        if self._chunks:
            data = np.concatenate(self._chunks, axis=1)
            whole = data.shape[1] // step * step
            if whole:
                # the mean of five samples: enough of a filter for a screen; a gap stays NaN
                small = data[:, :whole].reshape(len(data), -1, step).mean(axis=2)
                derived = context.montage.derive(small)
                there = [pair is not None for pair in context.montage.derivations]
                small = np.concatenate([derived[there], small]).astype("<f4")
                names = [*context.montage.derived, *context.montage.picks]
                about = {"sample": self._first, "rate": self._FEED_RATE, "names": names}
                encoded = base64.b64encode(small.tobytes()).decode()
                self.control.publish("signals", {**about, "data": encoded})
                self._first += whole
            self._chunks = [data[:, whole:]] if whole < data.shape[1] else []
        self.control.publish("state", status())
