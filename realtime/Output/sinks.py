"""Cues and where they sound: what a sink must do, and the sinks that need no sound card.

A new sink is a class that derives from `SoundSink`, and a line in `SOUND_SINKS`
(realtime/Utils/registries.py), or an entry point `sleep_interpreter.sinks` of another package.
"""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from sleep_interpreter.realtime.Output.mixer import Mixer
from sleep_interpreter.realtime.Parameters.output import AudioSettings
from sleep_interpreter.realtime.Utils.registries import SOUND_SINKS
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError

logger = logging.getLogger(__name__)

_BLOCK = 2**16  # frames rendered into a file at a time


@dataclass(frozen=True)
class Cue:
    """One cue, as schedules decide it, sinks play it and the log names it; the onset is a sample index.

    `item` is the number of the item in the data card, `name` what it is called there; `locked`: it waited for a phase
    of the slow oscillation and found it; `skipped`: why it is not played; `gain_db`: its sound's own gain; `sham`: it
    is logged and decoded like a cue, but nothing sounds.
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
    name: str = ""

    def log_fields(self) -> dict[str, Any]:
        """Return what every entry of the log says of the cue that it is about."""
        return {"number": self.number, "item": self.name, "group": self.group}


class SoundSink(Protocol):
    """What a session wants of a sink; a class that derives from it inherits what it has no use for.

    No method raises into the session, except `open`. A cue counts as sounded only when the sink says so: `played`
    tells of every cue what became of it or, where `confirms` is False, `began` knows it at the cue's onset.
    """

    confirms: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def open(cls, settings: AudioSettings, folder: Path, sounds: Sequence[np.ndarray], origin: int = 0) -> "SoundSink":
        """Return a sink that is ready, or raise `UserError`.

        `settings.options` are the sink's own; its files go into the session's `folder`; `sounds` are float32 arrays,
        one an item, at `settings.rate`; `origin` is the sample of the session at which the sink begins, above 0 when
        a session is resumed.
        """

    @classmethod
    def unavailable(cls, settings: AudioSettings, speed: float) -> str | None:
        """Return why this sink cannot be used with a source of this speed, or None."""
        return None

    @classmethod
    def try_out(cls, settings: AudioSettings) -> str | None:
        """Return why the sink takes no sound, or None; for the check before a night, so nothing is heard."""
        return None

    @classmethod
    def latency(cls, settings: AudioSettings) -> float:
        """Return the seconds before its onset at which the sink must have a cue; it may try out a device for it."""
        return 0.0

    @property
    @abstractmethod
    def volume_db(self) -> float:
        """The volume in force, dB relative to full scale."""

    @property
    def lost(self) -> str | None:
        """Why there is no sound at the moment, or None."""
        return None

    @abstractmethod
    def schedule(self, cue: Cue, when: float | None) -> None:
        """Play the cue at `when`, on the `time.perf_counter` clock; None when time is not paced."""

    @abstractmethod
    def cancel(self) -> list[int]:
        """Take back what has not begun; return the cues' numbers."""

    def silence(self) -> list[int]:
        """Fade out what sounds, take back what has not begun; return those cues' numbers."""
        return self.cancel()

    @abstractmethod
    def set_volume(self, db: float) -> float:
        """Change the volume, never above `settings.max_db`; return the one in force."""

    def began(self, number: int) -> bool | None:
        """Tell whether this cue sounds or has sounded, None while that is open; its marker goes out if it does."""
        return True

    def advance(self, sample: int) -> None:
        """The stream has reached this sample of the session."""
        return

    def played(self) -> list[dict[str, Any]]:
        """Return what has become of cues since the last call: {"number", "dac", ...}.

        `dac` is when it sounded, on the `time.perf_counter` clock, or None: then it did not, and "reason" says why.
        """
        return []

    def take_faults(self) -> list[dict[str, str]]:
        """Return [{"state", "reason"}] of what went wrong since the last call."""
        return []

    def close(self, sample: int) -> None:
        """The session has ended with this sample."""
        return


class NullSink(SoundSink):
    """Nothing sounds; the volume is kept, so that everything else goes on as it would."""

    confirms = False

    def __init__(self, volume_db: float, max_db: float) -> None:
        self._volume_db, self._max_db = volume_db, max_db
        self._pending: list[Cue] = []

    @classmethod
    def open(cls, settings: AudioSettings, folder: Path, sounds: Sequence[np.ndarray], origin: int = 0) -> "NullSink":
        return cls(settings.volume_db, settings.max_db)

    @property
    def volume_db(self) -> float:
        return self._volume_db

    def schedule(self, cue: Cue, when: float | None = None) -> None:
        """Note the cue, so that it can be taken back."""
        self._pending.append(cue)

    def cancel(self) -> list[int]:
        numbers = [cue.number for cue in self._pending]
        self._pending.clear()
        return numbers

    def set_volume(self, db: float) -> float:
        self._volume_db = min(float(db), self._max_db)
        return self._volume_db

    def began(self, number: int) -> bool:
        return False

    def advance(self, sample: int) -> None:
        """Forget the cues whose onset has come."""
        self._pending = [cue for cue in self._pending if cue.onset > sample]


class FileSink(SoundSink):
    """The session's sound as a FLAC file: frame f belongs to sample `origin` + f / rate * 500."""

    confirms = False

    def __init__(self, path: Path, mixer: Mixer, rate: int, origin: int = 0) -> None:
        import soundfile  # lazy: optional dependency

        self._mixer, self._rate, self._origin = mixer, rate, origin
        self._file = soundfile.SoundFile(path, "w", rate, 1, "PCM_16", format="FLAC")
        self._faults: list[dict[str, str]] = []
        self._failed = False

    @classmethod
    def open(cls, settings: AudioSettings, folder: Path, sounds: Sequence[np.ndarray], origin: int = 0) -> "FileSink":
        """Return a sink that writes cues.flac; a resumed session keeps the first part's."""
        path = folder / (f"cues_from_{origin}.flac" if origin else "cues.flac")
        mixer = Mixer(sounds, settings.volume_db, settings.max_db, settings.rate)
        return cls(path, mixer, settings.rate, origin)

    @property
    def volume_db(self) -> float:
        return self._mixer.volume_db

    def schedule(self, cue: Cue, when: float | None = None) -> None:
        """Render the cue from its onset sample on."""
        frame = self._frame(cue.onset)
        begins = self._mixer.schedule(cue.item, frame, cue.gain_db, cue.number)
        if begins != frame:
            text = f"cue {cue.number}: onset on frame {frame}, but the file is at {begins}"
            self._faults.append({"state": "late", "reason": text})

    def cancel(self) -> list[int]:
        return self._mixer.cancel()

    def silence(self) -> list[int]:
        return self._mixer.silence()

    def set_volume(self, db: float) -> float:
        return self._mixer.set_volume(db)

    def began(self, number: int) -> bool:
        return not self._failed

    def advance(self, sample: int) -> None:
        """Write everything up to `sample`."""
        if self._failed:
            return
        try:
            while (count := self._frame(sample) - self._mixer.position) > 0:
                self._file.write(self._mixer.render(min(count, _BLOCK)))
        except (OSError, RuntimeError) as error:  # a full disk: no cue from now on is in the file
            self._failed = True
            self._faults.append({"state": "failed", "reason": f"cues.flac: {error}"})

    def take_faults(self) -> list[dict[str, str]]:
        faults, self._faults = self._faults, []
        return faults

    def close(self, sample: int) -> None:
        self.advance(sample)
        try:
            self._file.close()
        except (OSError, RuntimeError) as error:
            logger.error("cues.flac cannot be closed: %s", error)

    def _frame(self, sample: int) -> int:
        return round((sample - self._origin) * self._rate / STREAM_RATE)


def choose_sink(settings: AudioSettings, speed: float, asleep: bool = False) -> tuple[str, str]:
    """Return the name of the sink to be used, and why that one; `UserError` where the one asked for cannot be.

    `speed` is the source's: only at 1 (as live sources are) does a sound card make sense. `asleep`: somebody sleeps at
    an amplifier and shall hear the cues, so that "auto" must find a device.
    """
    wanted = "device" if settings.sink == "auto" else settings.sink
    problem = SOUND_SINKS.load(wanted).unavailable(settings, speed)
    if settings.sink == "auto":
        if problem and asleep:
            raise UserError(
                f"audio.sink = 'auto': {problem}: nobody would hear a cue; connect the device, or ask for a night "
                "without sound: --set audio.sink=file (cues go to cues.flac), or --dry-run"
            )
        return ("file", problem) if problem else ("device", "speed 1 and an output device is there")
    if problem:
        raise UserError(f"audio.sink = {wanted!r}: {problem}")
    return wanted, "asked for"


def open_sink(
    name: str, settings: AudioSettings, folder: Path, sounds: Sequence[np.ndarray], origin: int = 0
) -> SoundSink:
    """Return the registered sink of that name, opened (`SoundSink.open`)."""
    sink: SoundSink = SOUND_SINKS.make(name, settings, folder, sounds, origin)
    return sink
