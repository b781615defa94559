"""What a session is doing now, as one dict: for the monitor and control clients."""

import shutil
import time
from datetime import UTC, datetime

from sleep_interpreter.realtime.Session.session_context import rounded, stage_name
from sleep_interpreter.utils.core.constants import ITEMS, STREAM_RATE

_ALARMS = {
    "stalled": "no samples",
    "lost": "stream lost",
    "refused": "stream refused",
    "behind": "samples late",
}


class Status:
    """Tell the state of a session.

    Parameters
    ----------
    session : sleep_interpreter.realtime.Session.session.Session
    about : dict
        `session`, `subject`, `simulated`, `folder` (Path).
    """

    def __init__(self, session, about):
        self._session, self._about = session, about
        self._alarms = {}
        self._faults = {}

    def fault(self, part, state, reason):
        """Take note of a part that failed or works again."""
        if state == "back":
            self._faults.pop(part, None)
        elif state != "set":  # a clock that was set has happened, and is over
            self._faults[part] = reason

    def take(self):
        """Return the state (docs/monitor.md lists its keys)."""
        session = self._session
        night, cueing, staging, decoding = session.night, session.cueing, session.staging, session.decoding
        gate, settings = staging.gate, night.settings
        age = staging.age()
        recording = self._recording()
        return {
            "sample": night.sample,
            "seconds": round(night.seconds(night.sample), 2),
            "clock": datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
            "stage": stage_name(gate.stage),
            "probabilities": rounded(gate.probabilities),
            "reason": staging.reason,
            "gate": gate.open,
            "cueing": cueing.playing,
            "blocked": [] if cueing.playing else (cueing.why() or "").split("; "),
            "volume_db": round(night.sink.volume_db, 2),
            "max_db": settings.audio.max_db,
            "group": cueing.schedule.group(night.sample) if hasattr(cueing.schedule, "group") else None,
            "cues": dict(cueing.counts),
            "shams": cueing.shams,
            "decodes": dict(decoding.counts),
            "last_decode": decoding.last,
            "quality": {name: session.watch.faults.get(name) for name in night.montage.picks},
            "stream": {**session.stream, "latency_ms": round(night.behind() * 1e3, 1)},
            "recording": recording,
            "stager": {
                "age_seconds": None if age is None else round(age, 1),
                "latency_ms": None if staging.latency is None else round(staging.latency * 1e3, 1),
                "late": staging.late,
            },
            "audio": {"lost": getattr(night.sink, "lost", None)},
            "ports": {"names": [] if night.ports is None else night.ports.names},
            "phase": {
                "target": settings.cues.lock.target_degrees,
                "locked": settings.cues.lock.method != "none",
                "degrees": list(cueing.degrees)[-200:],
            },
            "alarms": self._alarms_now(age, recording),
            "items": list(ITEMS),
            "channels": list(night.montage.picks),
            "session": self._about["session"],
            "subject": self._about["subject"],
            "simulated": self._about["simulated"],
        }

    def _recording(self):
        recorder = getattr(self._session.night.source, "recorder", None)
        try:
            free = shutil.disk_usage(self._about["folder"]).free
        except OSError:
            free = None
        result = {
            "file": None, "bytes": None, "acknowledged_samples": None, "free_bytes": free,
            "minutes_left": None,
        }  # fmt: skip
        if recorder is not None:
            result |= {
                "file": recorder.path.name,
                "bytes": recorder.bytes,
                "acknowledged_samples": recorder.acknowledged,
            }
            if free is not None:
                result["minutes_left"] = round(free / recorder.bytes_per_second / 60, 1)
        return result

    def _alarms_now(self, age, recording):
        session, night = self._session, self._session.night
        found = {}
        state = session.stream["state"]
        if state in _ALARMS:
            found["stream"] = _ALARMS[state]
        silent = night.settings.staging.silent_seconds + night.settings.staging.every_seconds
        if age is not None and age > silent:
            found["stager"] = f"no stage for {age:.0f} s"
        bad = sorted(session.watch.faults)
        if bad:
            more = "" if len(bad) < 4 else f" and {len(bad) - 3} more"
            found["quality"] = f"{', '.join(bad[:3])}{more}: bad signal"
        if recording["minutes_left"] is not None and recording["minutes_left"] < 60:
            found["disk"] = f"disk full in {recording['minutes_left']:.0f} min"
        found |= {part: text for part, text in self._faults.items()}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._alarms = {kind: self._alarms.get(kind, now) for kind in found}
        return [{"kind": k, "text": found[k], "since": since} for k, since in self._alarms.items()]


class Panel:
    """Connects a session with control and feed.

    Parameters
    ----------
    control : Control
    """

    _STATE_SECONDS = 0.2
    _FEED_RATE = 100

    def __init__(self, control):
        self._control = control
        self._shown = 0.0
        self._signals = []
        self._first = None

    def take(self):
        """Return the requests since the last call."""
        return self._control.take()

    def event(self, entry):
        """Give an event of the log to the readers."""
        self._control.publish("event", entry)

    def show(self, session, chunk):
        """Give the readers the newest signal and, five times a second, the state."""
        import base64

        import numpy as np

        if not self._control.watched:
            self._signals, self._first = [], None
            return
        if chunk.shape[1]:
            if self._first is None:
                self._first = session.sample - chunk.shape[1]
            self._signals.append(chunk)
        now = time.monotonic()
        if now - self._shown < self._STATE_SECONDS:
            return
        self._shown = now
        step = round(STREAM_RATE / self._FEED_RATE)
        if self._signals:
            data = np.concatenate(self._signals, axis=1)
            whole = data.shape[1] // step * step
            if whole:
                # the mean of five samples: enough of a filter for a screen; a gap stays NaN
                small = data[:, :whole].reshape(len(data), -1, step).mean(axis=2).astype("<f4")
                self._control.publish(
                    "signals",
                    {
                        "sample": self._first,
                        "rate": self._FEED_RATE,
                        "names": list(session.night.montage.picks),
                        "data": base64.b64encode(small.tobytes()).decode(),
                    },
                )
                self._first += whole
            self._signals = [data[:, whole:]] if whole < data.shape[1] else []
            if not self._signals:
                self._first = None
        self._control.publish("state", session.status())

    def close(self):
        """End the server."""
        self._control.close()
