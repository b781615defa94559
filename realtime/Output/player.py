"""Cues in the frames of a sound card, each from the frame of its DAC time on; what a card can play."""

import logging
import threading
import time
from collections import deque

from sleep_interpreter.utils.core.constants import ITEMS
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.resample import ratio

logger = logging.getLogger(__name__)

LATENCY = 0.03
"""Seconds that PortAudio is asked for; 30 ms gave no underflow beside a busy thread (docs/realtime.md)."""
FILLED = 0.2
"""Seconds after which requests come from the card: at opening PortAudio asks at once, to fill its buffer."""


class Player:
    """Fill the blocks of an output stream so that each cue starts on the frame of its DAC time.

    Parameters
    ----------
    path : Path
        Of the table of what was played (audio.tsv): every cue's requested and real DAC time.
    renderer : Renderer
    rate : int
    late : float
        Seconds after its time from which on a cue does not sound any more.
    """

    def __init__(self, path, renderer, rate, late):
        self._renderer, self._rate, self._late = renderer, rate, late
        self._waiting, self._played, self._missed, self._out = deque(), deque(), deque(), deque()
        self._silent = self._dropped = False
        self.underflows = 0
        self.called = time.perf_counter()
        fresh = not path.exists()
        self._table = path.open("a", encoding="utf-8")
        if fresh:
            self._table.write("cue\titem\tonset_sample\trequested_s\tdac_s\tlate_ms\tframes\tlevel_db\n")

    @property
    def volume_db(self):
        """The volume in force, dB relative to full scale."""
        return self._renderer.volume_db

    def schedule(self, cue, when):
        """Play the cue so that its first frame leaves the converter at `when`."""
        self._waiting.append((cue, when))

    def cancel(self):
        """Take back what the card has not been given yet; return the cues' numbers."""
        found = []
        while self._waiting:
            try:
                found.append(self._waiting.popleft()[0].number)
            except IndexError:  # the callback was faster
                break
        return found

    def silence(self):
        """Fade out what sounds at the next block, take back what waits; return those cues' numbers."""
        found = self.cancel()
        self._silent = True
        return found

    def lose(self, reason):
        """The card is gone: what waits does not sound, and nothing of what sounded is played later."""
        self._dropped = True
        while self._waiting:
            try:
                self._missed.append((self._waiting.popleft()[0], reason))
            except IndexError:  # it was taken back
                break

    def set_volume(self, db):
        """Change the volume, never above the cap; return it."""
        return self._renderer.set_volume(db)

    def callback(self, out, frames, times, status):
        """Fill one block; PortAudio calls this in its own thread."""
        if status:
            self.underflows += 1
        self.called = time.perf_counter()
        dac = self.called + times.outputBufferDacTime - times.currentTime  # of out[0]
        if self._dropped:
            self._dropped = False
            self._renderer.clear()
        if self._silent:
            self._renderer.silence()
            self._silent = False
        while self._waiting and self._waiting[0][1] < dac + frames / self._rate:
            try:
                cue, when = self._waiting.popleft()
            except IndexError:  # it was taken back
                break
            if dac - when > self._late:  # the card stood still: the marker and the decoder did not wait
                self._missed.append((cue, f"it would have sounded {(dac - when) * 1e3:.0f} ms late"))
                continue
            start = self._renderer.position
            frame = self._renderer.schedule(
                cue.item, start + round((when - dac) * self._rate), cue.gain_db, cue.number
            )
            self._played.append((cue, when, dac + (frame - start) / self._rate, frame))
        out[:, 0] = self._renderer.render(frames)
        out[:, 1:] = out[:, :1]

    def advance(self):
        """Write down what has been played since the last call, and what was not."""
        while self._missed:
            self.refuse(*self._missed.popleft())
        while self._played:
            cue, when, dac, frame = self._played.popleft()
            late, level = (dac - when) * 1e3, self.volume_db + cue.gain_db
            self._row(cue, f"{when:.6f}\t{dac:.6f}\t{late:.3f}\t{frame}\t{level:.2f}")
            self._out.append(
                {
                    "number": cue.number,
                    "requested": round(when, 6),
                    "dac": round(dac, 6),
                    "late_ms": round(late, 3),
                    "level_db": round(level, 2),
                }
            )

    def refuse(self, cue, reason):
        """Note that a cue did not sound."""
        self._row(cue, "n/a\tn/a\tn/a\tn/a\tn/a")
        self._out.append({"number": cue.number, "dac": None, "reason": reason})

    def played(self):
        """Return what has become of cues since the last call."""
        found = []
        while self._out:
            found.append(self._out.popleft())
        return found

    def close(self):
        """Close the table."""
        self.advance()
        self._table.close()
        if self.underflows:
            logger.warning("the sound card ran dry %d times", self.underflows)

    def _row(self, cue, rest):
        try:
            self._table.write(f"{cue.number}\t{ITEMS[cue.item]}\t{cue.onset}\t{rest}\n")
            self._table.flush()
        except OSError as error:  # a full disk: log.jsonl has the same times
            logger.error("audio.tsv cannot be written: %s", error)


def resampled(sound, rate, target):
    """Return a sound (n,) at another rate, float32."""
    from scipy import signal

    if rate == target:
        return sound
    up, down = ratio(rate, target)
    return signal.resample_poly(sound, up, down).astype("float32")


def usable_rate(settings):
    """Return the rate in Hz at which the device plays: the sounds' own, or the device's default."""
    library = sounddevice()
    device = device_of(settings)
    try:
        library.check_output_settings(device, channels=1, samplerate=settings.rate)
        return settings.rate
    except (library.PortAudioError, ValueError):
        return round(library.query_devices(device, "output")["default_samplerate"])


def device_of(settings):
    """Return the device as PortAudio wants it: a number, a name or None."""
    return int(settings.device) if settings.device and settings.device.isdigit() else settings.device


def available(settings):
    """Return why no output device can be used, or None."""
    try:
        library = sounddevice()
    except UserError as error:
        return str(error)
    if not any(d["max_output_channels"] > 0 for d in library.query_devices()):
        return "this machine has no output device"
    try:
        library.check_output_settings(device_of(settings), channels=1, samplerate=usable_rate(settings))
    except (library.PortAudioError, ValueError) as error:
        return f"audio.device = {settings.device!r} cannot play {settings.rate} Hz mono ({error})"
    return None


def silent_trial(settings, seconds=10.0):
    """Return why the device takes no frames, or None: nothing is heard, it is given silence.

    Parameters
    ----------
    settings : AudioSettings
    seconds : float
        After which it is given up.
    """
    began, enough = time.perf_counter(), threading.Event()

    def callback(out, frames, times, status):
        out[:] = 0
        if time.perf_counter() - began > FILLED:
            enough.set()

    try:
        with sounddevice().OutputStream(
            samplerate=usable_rate(settings), device=device_of(settings), channels=1, dtype="float32",
            latency=LATENCY, callback=callback,
        ):  # fmt: skip
            taken = enough.wait(seconds)
    except Exception as error:  # PortAudio's own errors, or its library's
        return f"audio.device = {settings.device!r}: the stream cannot be opened: {error}"
    return None if taken else f"audio.device = {settings.device!r} takes no frames within {seconds:g} s"


def sounddevice():
    """Return the package sounddevice.

    Raises
    ------
    UserError
        It, or the PortAudio library, is not there.
    """
    try:
        import sounddevice as library
    except ImportError:
        raise UserError("the package sounddevice is not installed (pip install -e '.[realtime]')") from None
    except OSError:
        raise UserError("the PortAudio library is missing (Debian, Ubuntu: libportaudio2)") from None
    return library
