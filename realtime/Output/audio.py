"""Cues as sound: where their frames go.

A sink has `schedule(cue, when)`, `cancel()`, `silence()`, `set_volume(db)`, `volume_db`, `advance(sample)`
(the stream has reached this sample), `played()`, `take_faults()` and `close(sample)`; `when` is the onset on
the `time.perf_counter` clock, None when time is not paced. No sink raises into the session.
"""

import logging
import time

from sleep_interpreter.realtime.Output.mixer import Renderer
from sleep_interpreter.realtime.Output.player import available, device_of, sounddevice
from sleep_interpreter.realtime.Output.sound_card import DeviceSink
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError

logger = logging.getLogger(__name__)

_BLOCK = 2**16  # frames rendered into a file at a time


class NullSink:
    """Nothing sounds; the volume is kept, so that everything else goes on as it would.

    Parameters
    ----------
    volume_db, max_db : float
    """

    def __init__(self, volume_db, max_db):
        self.volume_db, self._max_db = volume_db, max_db
        self._coming = []

    def schedule(self, cue, when=None):
        """Note the cue, so that it can be taken back."""
        self._coming.append(cue)

    def cancel(self):
        """Return the numbers of the cues that have not begun."""
        found = [cue.number for cue in self._coming]
        self._coming.clear()
        return found

    silence = cancel

    def set_volume(self, db):
        """Keep the volume, never above the cap; return it."""
        self.volume_db = min(float(db), self._max_db)
        return self.volume_db

    def advance(self, sample):
        """Forget the cues whose onset has come."""
        self._coming = [cue for cue in self._coming if cue.onset > sample]

    def played(self):
        """Return []: nothing is played."""
        return []

    take_faults = played

    def close(self, sample):
        """Nothing to close."""


class FileSink:
    """The session's sound as a FLAC file on the sample clock: frame f belongs to sample f / rate * 500.

    Parameters
    ----------
    path : Path
    renderer : Renderer
    rate : int
        Hz.
    origin : int
        Sample of the session at which the file begins.
    """

    def __init__(self, path, renderer, rate, origin=0):
        import soundfile

        self._renderer, self._rate, self._origin = renderer, rate, origin
        self._file = soundfile.SoundFile(path, "w", rate, 1, "PCM_16", format="FLAC")
        self._faults = []

    @property
    def volume_db(self):
        """The volume in force, dB relative to full scale."""
        return self._renderer.volume_db

    def schedule(self, cue, when=None):
        """Render the cue from its onset sample on."""
        frame = self._frame(cue.onset)
        begins = self._renderer.schedule(cue.item, frame, cue.gain_db, cue.number)
        if begins != frame:
            text = f"cue {cue.number}: onset on frame {frame}, but the file is at {begins}"
            self._faults.append({"state": "late", "reason": text})

    def cancel(self):
        """Take back what has not begun; return the cues' numbers."""
        return self._renderer.cancel()

    def silence(self):
        """Fade out what sounds, take back what has not begun; return those cues' numbers."""
        return self._renderer.silence()

    def set_volume(self, db):
        """Change the volume, never above the cap; return it."""
        return self._renderer.set_volume(db)

    def advance(self, sample):
        """Write everything up to `sample`."""
        try:
            while (count := self._frame(sample) - self._renderer.position) > 0:
                self._file.write(self._renderer.render(min(count, _BLOCK)))
        except (OSError, RuntimeError) as error:  # a full disk: the session goes on without this copy
            self._faults.append({"state": "failed", "reason": f"cues.flac: {error}"})

    def played(self):
        """Return []: the log has every onset, and the file is on its clock."""
        return []

    def take_faults(self):
        """Return what went wrong since the last call."""
        found, self._faults = self._faults, []
        return found

    def close(self, sample):
        """Write the rest and close the file."""
        self.advance(sample)
        try:
            self._file.close()
        except (OSError, RuntimeError) as error:
            logger.error("cues.flac cannot be closed: %s", error)

    def _frame(self, sample):
        return round((sample - self._origin) * self._rate / STREAM_RATE)


def choose_sink(settings, speed):
    """Return "file", "device" or "null", and why.

    Parameters
    ----------
    settings : AudioSettings
    speed : float
        Of the source; only at 1 (as live sources are) does a sound card make sense.

    Raises
    ------
    UserError
        A device is asked for and there is none, or the speed is not 1.
    """
    if settings.sink in ("file", "null"):
        return settings.sink, "asked for"
    lacking = (
        available(settings) if speed == 1 else f"a sound card needs --speed 1, this is --speed {speed:g}"
    )
    if settings.sink == "device":
        if lacking:
            raise UserError(f"audio.sink = 'device': {lacking}")
        return "device", "asked for"
    return ("file", lacking) if lacking else ("device", "speed 1 and an output device is there")


def open_sink(kind, settings, folder, sounds, origin=0):
    """Return the sink of that kind, writing into the session's folder.

    Parameters
    ----------
    kind : str
        "file", "device" or "null".
    settings : AudioSettings
    folder : Path
    sounds : sequence of float32 arrays
        At `settings.rate`.
    origin : int
        Sample of the session at which the sink begins.
    """
    if kind == "null":
        return NullSink(settings.volume_db, settings.max_db)
    if kind == "file":
        renderer = Renderer(sounds, settings.volume_db, settings.max_db, settings.rate)
        path = folder / "cues.flac"
        if origin:  # a resumed session keeps the first part's sound
            path = folder / f"cues_from_{origin}.flac"
        return FileSink(path, renderer, settings.rate, origin)
    return DeviceSink(folder / "audio.tsv", settings, sounds)


def play_now(settings, sound, level_db):
    """Play one sound to its end at a level, never above the cap: for calibration and the pre-flight check.

    Parameters
    ----------
    settings : AudioSettings
    sound : float32 array (n,)
        At `settings.rate`.
    level_db : float
        Relative to full scale.
    """
    renderer = Renderer([sound], level_db, settings.max_db, settings.rate)
    renderer.schedule(0, 0)
    sounddevice().play(renderer.render(len(sound)), settings.rate, device=device_of(settings), blocking=True)
    time.sleep(0.05)
