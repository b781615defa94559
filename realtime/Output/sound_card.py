"""Cues through a sound card: one stream, open all night; what a card can play.

If the card vanishes, cues do not sound, the session is told, and the stream is opened anew as soon as the
same card is there again.
"""

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sleep_interpreter.realtime.Output.mixer import Mixer, resample_sound
from sleep_interpreter.realtime.Output.sinks import Cue, SoundSink
from sleep_interpreter.realtime.Parameters.output import AudioSettings
from sleep_interpreter.utils.core.errors import UserError

logger = logging.getLogger(__name__)

_LATENCY = 0.03
"""Seconds that PortAudio is asked for; 30 ms gave no underflow beside a busy thread (docs/realtime.md)."""
_FILLED = 0.2
"""Seconds after which requests come from the card: at opening PortAudio asks at once, to fill its buffer."""
_TRIED = 10
"""Requests for frames by which a card's latency is measured."""
_POLL_SECONDS = 0.25
"""Between two checks whether the stream is alive."""
_DEAD_SECONDS = 2.0
"""Without a request for frames, after which the card is taken for lost."""
_RETRY_SECONDS = 5.0
"""Between two attempts to open a card that is lost: each lists all devices, which costs memory."""


class Player:
    """Fill the blocks of an output stream so that each cue starts on the frame of its DAC time.

    `path` is the table of what was played (audio.tsv): every cue's requested and real DAC time. From `late` seconds
    after its time on a cue does not sound any more. A cue counts as heard once the card asks for frames after the
    cue's DAC time: until then it may be lost in the card's buffer.
    """

    confirms = True

    def __init__(self, path: Path, mixer: Mixer, rate: int, late: float) -> None:
        self._mixer, self._rate, self._late = mixer, rate, late
        self._waiting: deque[tuple[Cue, float]] = deque()
        self._begun: deque[tuple[Cue, float, float, int]] = deque()  # cue, asked for, DAC time, frame
        self._heard: deque[tuple[Cue, float, float, int]] = deque()  # the same, of cues that are out
        self._missed: deque[tuple[Cue, str]] = deque()
        self._state: dict[int, bool] = {}  # of the cues by number: given to the card, or not to sound
        self._played: deque[dict[str, Any]] = deque()
        self._silence_next = self._clear_next = False
        self._underflows = 0
        self._called = time.perf_counter()
        self._table = path.open("a", encoding="utf-8")
        if self._table.tell() == 0:
            self._table.write("cue\titem\tonset_sample\trequested_s\tdac_s\tlate_ms\tframes\tlevel_db\n")

    @property
    def volume_db(self) -> float:
        return self._mixer.volume_db

    def schedule(self, cue: Cue, when: float | None) -> None:
        assert when is not None, "a sound card is used at real time only (`choose_sink`)"
        self._waiting.append((cue, when))

    def began(self, number: int) -> bool | None:
        return self._state.get(number)

    def cancel(self) -> list[int]:
        """Take back what the card has not been given yet; return the cues' numbers."""
        numbers = [cue.number for cue, _ in _drain(self._waiting)]
        self._state.update(dict.fromkeys(numbers, False))
        return numbers

    def silence(self) -> list[int]:
        """Fade out what sounds at the next block, take back what waits; return those cues' numbers."""
        numbers = self.cancel()
        self._silence_next = True
        return numbers

    def drop_all(self, reason: str) -> None:
        """The card is gone: what waits, or is in its buffer, does not sound, nor the rest of what did later on."""
        self._clear_next = True
        for cue, *_ in [*_drain(self._begun), *_drain(self._waiting)]:
            self._miss(cue, reason)

    def set_volume(self, db: float) -> float:
        return self._mixer.set_volume(db)

    def callback(self, out: np.ndarray, frames: int, times: Any, status: Any) -> None:
        """Fill one block; PortAudio calls this in its own thread."""
        if status:
            self._underflows += 1
        self._called = time.perf_counter()
        dac = self._called + times.outputBufferDacTime - times.currentTime  # of out[0]
        self._settle(dac)
        if self._clear_next:
            self._clear_next = False
            self._mixer.clear()
        if self._silence_next:
            self._mixer.silence()
            self._silence_next = False
        while self._waiting and self._waiting[0][1] < dac + frames / self._rate:
            try:
                cue, when = self._waiting.popleft()
            except IndexError:  # it was taken back
                break
            if dac - when > self._late:  # the card stood still: the marker and the decoder did not wait
                self._miss(cue, f"it would have sounded {(dac - when) * 1e3:.0f} ms late")
                continue
            start = self._mixer.position
            frame = self._mixer.schedule(cue.item, start + round((when - dac) * self._rate), cue.gain_db, cue.number)
            self._begun.append((cue, when, dac + (frame - start) / self._rate, frame))
            self._state[cue.number] = True
        out[:, 0] = self._mixer.render(frames)
        out[:, 1:] = out[:, :1]

    def _settle(self, dac: float) -> None:
        """Tell which cues are out by now; `dac` is the time of the next frame.

        Where the card stood still in between, its next frame comes later than it follows from the cue's.
        """
        while self._begun and self._begun[0][2] < self._called:
            cue, when, planned, frame = self._begun.popleft()
            real = dac - (self._mixer.position - frame) / self._rate
            if real - planned > self._late:
                self._miss(
                    cue, f"the card stood still as it began: it may have sounded {(real - when) * 1e3:.0f} ms late"
                )
            else:
                self._heard.append((cue, when, planned, frame))

    def _miss(self, cue: Cue, reason: str) -> None:
        self._state[cue.number] = False
        self._missed.append((cue, reason))

    def advance(self, sample: int) -> None:
        """Write down what has been played since the last call, and what was not."""
        for cue, reason in _drain(self._missed):
            self.refuse(cue, reason)
        for cue, when, dac, frame in _drain(self._heard):
            late, level = (dac - when) * 1e3, self.volume_db + cue.gain_db
            self._write_row(cue, f"{when:.6f}\t{dac:.6f}\t{late:.3f}\t{frame}\t{level:.2f}")
            times = {"requested": round(when, 6), "dac": round(dac, 6), "late_ms": round(late, 3)}
            self._played.append({"number": cue.number, **times, "level_db": round(level, 2)})

    def refuse(self, cue: Cue, reason: str) -> None:
        """Note that a cue did not sound."""
        self._state[cue.number] = False
        self._write_row(cue, "n/a\tn/a\tn/a\tn/a\tn/a")
        self._played.append({"number": cue.number, "dac": None, "reason": reason})

    def played(self) -> list[dict[str, Any]]:
        return _drain(self._played)

    def close(self, sample: int) -> None:
        for cue, *_ in _drain(self._begun):
            self._miss(cue, "the session ended as it began")
        self.advance(sample)
        self._table.close()
        if self._underflows:
            logger.warning("the sound card ran dry %d times", self._underflows)

    def _write_row(self, cue: Cue, rest: str) -> None:
        try:
            self._table.write(f"{cue.number}\t{cue.name}\t{cue.onset}\t{rest}\n")
            self._table.flush()
        except OSError as error:  # a full disk: log.jsonl has the same times
            logger.error("audio.tsv cannot be written: %s", error)


class DeviceSink(Player, SoundSink):
    """A player with a sound card; its stream is opened anew when the card vanishes and returns.

    A card is known by its name: after PortAudio has listed the devices anew, its number, or the default, may be
    another card, of another loudness and in another room. The sounds, at `settings.rate`, are resampled once where
    the card wants another rate. `UserError` where the stream cannot be opened.
    """

    def __init__(self, path: Path, settings: AudioSettings, sounds: Sequence[np.ndarray]) -> None:
        rate = device_rate(settings)
        sounds = [resample_sound(sound, settings.rate, rate) for sound in sounds]
        mixer = Mixer(sounds, settings.volume_db, settings.max_db, rate)
        super().__init__(path, mixer, rate, settings.late_seconds)
        self._faults: deque[dict[str, str]] = deque()
        self._lost: str | None = None
        self._closed = threading.Event()
        self._reopened: float | None = None  # when the stream was, until the card takes frames again
        self._retry_at = 0.0
        try:
            self._find_again, self._name = device_finder(portaudio_device(settings))
            self._stream = self._open_stream(portaudio_device(settings))
        except Exception as error:  # PortAudio's own errors, or its library's
            raise UserError(f"audio.device = {settings.device!r}: the stream cannot be opened: {error}") from error
        self._keeper = threading.Thread(target=self._keep_open, name="sound", daemon=True)
        self._keeper.start()

    @classmethod
    def open(cls, settings: AudioSettings, folder: Path, sounds: Sequence[np.ndarray], origin: int = 0) -> "DeviceSink":
        return cls(folder / "audio.tsv", settings, sounds)

    @classmethod
    def unavailable(cls, settings: AudioSettings, speed: float) -> str | None:
        if speed != 1:
            return f"a sound card needs --speed 1, this is --speed {speed:g}"
        return device_problem(settings)

    @classmethod
    def try_out(cls, settings: AudioSettings, seconds: float = 10.0) -> str | None:
        """Return why the device takes no frames within some seconds, or None; it is given silence."""
        found = cls._try_silence(settings, seconds)
        return found if isinstance(found, str) else None

    @classmethod
    def latency(cls, settings: AudioSettings) -> float:
        """Measure it on silence: from a request for frames to the DAC time of its last one; 0 where none came."""
        found = cls._try_silence(settings, 3.0)
        return found if isinstance(found, float) else 0.0

    @staticmethod
    def _try_silence(settings: AudioSettings, seconds: float) -> str | float:
        """Give the device silence for a moment; return its latency in s, or why it takes no frames."""
        began, filled, rate = time.perf_counter(), threading.Event(), device_rate(settings)
        delays: list[float] = []

        def callback(out: np.ndarray, frames: int, times: Any, status: Any) -> None:
            out[:] = 0
            if time.perf_counter() - began > _FILLED:
                delays.append(times.outputBufferDacTime - times.currentTime + frames / rate)
                if len(delays) > _TRIED:
                    filled.set()

        try:
            with import_sounddevice().OutputStream(
                samplerate=rate, device=portaudio_device(settings), channels=1,
                dtype="float32", latency=_LATENCY, callback=callback,
            ):  # fmt: skip
                taken = filled.wait(seconds)
        except Exception as error:  # PortAudio's own errors, or its library's
            return f"audio.device = {settings.device!r}: the stream cannot be opened: {error}"
        return max(delays) if taken else f"audio.device = {settings.device!r} takes no frames within {seconds:g} s"

    @property
    def lost(self) -> str | None:
        return self._lost

    def schedule(self, cue: Cue, when: float | None) -> None:
        if self._lost is not None:
            self.refuse(cue, self._lost)
        else:
            super().schedule(cue, when)
            if self._lost is not None:  # just now
                self.drop_all(self._lost)

    def take_faults(self) -> list[dict[str, str]]:
        return _drain(self._faults)

    def close(self, sample: int) -> None:
        """Let what is in the card's buffer end, then close the stream."""
        self._closed.set()
        self._keeper.join(5)
        time.sleep(2 * _LATENCY)
        self._close_stream()
        super().close(sample)

    def _open_stream(self, device: int | str | None) -> Any:
        stream = import_sounddevice().OutputStream(
            samplerate=self._rate, device=device, channels=1, dtype="float32", latency=_LATENCY, callback=self.callback
        )
        self._called = time.perf_counter()
        stream.start()
        return stream

    def _close_stream(self) -> None:
        if self._stream is None:
            return
        try:
            self._stream.abort()
            self._stream.close()
        except Exception as error:  # a card that is gone cannot be closed either
            logger.debug("closing the sound stream: %s", error)
        self._stream = None

    def _keep_open(self) -> None:
        """Look after the stream until the session ends."""
        while not self._closed.wait(_POLL_SECONDS):
            silent = time.perf_counter() - self._called > _DEAD_SECONDS
            if self._lost is None and (silent or not self._active()):
                self._lost = f"the sound device {self._name} is gone"
                self.drop_all(self._lost)
                self._faults.append({"state": "lost", "reason": self._lost})
            waits = self._lost is not None and (silent or not self._runs_again())
            if waits and time.perf_counter() >= self._retry_at:
                self._reopen()
                self._retry_at = time.perf_counter() + _RETRY_SECONDS

    def _runs_again(self) -> bool:
        """Whether the stream that was opened again runs; a sound server may take a second to begin."""
        if self._reopened is None or not self._active():
            return False
        if self._called - self._reopened > _FILLED:
            self._lost = self._reopened = None
            self._faults.append({"state": "back", "reason": "the sound device is there again"})
        return True

    def _active(self) -> bool:
        try:
            return self._stream is not None and self._stream.active
        except Exception as error:  # PortAudio's own errors: what cannot be asked does not play
            logger.debug("asking the sound stream: %s", error)
            return False

    def _reopen(self) -> None:
        self._reopened = None
        self._close_stream()
        library = import_sounddevice()
        try:
            library._terminate()  # PortAudio lists the devices once, when it is initialised
            library._initialize()
            self._stream = self._open_stream(self._find_again())
        except Exception as error:  # not there yet
            logger.debug("opening the sound device again: %s", error)
        else:
            self._reopened = self._called


def device_finder(device: int | str | None) -> tuple[Callable[[], int], str]:
    """Return how an output device can be found again after PortAudio has listed the devices anew, and its name.

    `find_again()` gives the number under which it is listed then; LookupError where it is not.
    """
    library = import_sounddevice()

    def exact(found: dict[str, Any]) -> tuple[str, str]:
        return library.query_hostapis(found["hostapi"])["name"], found["name"]

    def alike(found: dict[str, Any]) -> tuple[str, str]:
        api, name = exact(found)  # ALSA's name ends in the card's number, another one when plugged in again
        return api, re.sub(r"\(hw:\d+,", "(hw:,", name)

    def listed(key: Callable[[dict[str, Any]], tuple[str, str]], wanted: tuple[str, str]) -> list[int]:
        devices = enumerate(library.query_devices())
        return [k for k, found in devices if found["max_output_channels"] > 0 and key(found) == wanted]

    first = library.query_devices(device, "output")
    key = alike if len(listed(alike, alike(first))) == 1 else exact  # of two equal cards only this one
    wanted = key(first)

    def find_again() -> int:
        numbers = listed(key, wanted)
        if len(numbers) != 1:
            raise LookupError(f"{len(numbers)} output devices are called {first['name']!r}")
        return numbers[0]

    return find_again, repr(first["name"])


def device_problem(settings: AudioSettings) -> str | None:
    """Return why no output device can be used, or None."""
    try:
        library = import_sounddevice()
    except UserError as error:
        return str(error)
    if not any(d["max_output_channels"] > 0 for d in library.query_devices()):
        return "this machine has no output device"
    try:
        library.check_output_settings(portaudio_device(settings), channels=1, samplerate=device_rate(settings))
    except (library.PortAudioError, ValueError) as error:
        return f"audio.device = {settings.device!r} cannot play {settings.rate} Hz mono ({error})"
    return None


def device_rate(settings: AudioSettings) -> int:
    """Return the rate in Hz at which the device plays: the sounds' own, or the device's default."""
    library = import_sounddevice()
    device = portaudio_device(settings)
    try:
        library.check_output_settings(device, channels=1, samplerate=settings.rate)
        return settings.rate
    except (library.PortAudioError, ValueError):
        return round(library.query_devices(device, "output")["default_samplerate"])


def portaudio_device(settings: AudioSettings) -> int | str | None:
    """Return the device as PortAudio wants it: a number, a name or None."""
    return int(settings.device) if settings.device and settings.device.isdigit() else settings.device


def play_now(settings: AudioSettings, sound: np.ndarray, level_db: float) -> None:
    """Play a sound (n,), float32 at `settings.rate`, to its end at `level_db` of full scale, never above the cap."""
    mixer = Mixer([sound], level_db, settings.max_db, settings.rate)
    mixer.schedule(0, 0)
    import_sounddevice().play(mixer.render(len(sound)), settings.rate, device=portaudio_device(settings), blocking=True)
    time.sleep(0.05)


def import_sounddevice() -> Any:
    """Return the package sounddevice, or raise `UserError`: it, or the PortAudio library, is not there."""
    try:
        import sounddevice  # lazy: optional dependency
    except ImportError:
        raise UserError("the package sounddevice is not installed (pip install -e '.[realtime]')") from None
    except OSError:
        raise UserError("the PortAudio library is missing (Debian, Ubuntu: libportaudio2)") from None
    return sounddevice


def _drain(queue: deque[Any]) -> list[Any]:
    """Take everything out of a queue that other threads use too."""
    found = []
    while queue:
        try:
            found.append(queue.popleft())
        except IndexError:  # another thread was faster
            break
    return found
