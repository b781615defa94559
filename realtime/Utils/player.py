"""Cues through a sound card: one stream, open all night, that starts each cue on the frame of its DAC time.

If the card vanishes, cues do not sound, the session is told, and the stream is opened anew as soon as there
is a card again.
"""

import logging
import threading
import time
from collections import deque

from realtime.Utils.renderer import Renderer
from utils.errors import UserError
from utils.resample import ratio
from utils.vocabulary import ITEMS

logger = logging.getLogger(__name__)

_LATENCY = 0.03
"""Seconds that PortAudio is asked for; 30 ms gave no underflow beside a busy thread (docs/realtime.md)."""
_LOOK = 0.25
"""Seconds between two looks whether the stream is alive."""
_DEAD = 2.0
"""Seconds without a request for frames after which the card is taken for lost."""
_FILLED = 0.2
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
        self._silent = False
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

    def set_volume(self, db):
        """Change the volume, never above the cap; return it."""
        return self._renderer.set_volume(db)

    def callback(self, out, frames, times, status):
        """Fill one block; PortAudio calls this in its own thread."""
        if status:
            self.underflows += 1
        self.called = time.perf_counter()
        dac = self.called + times.outputBufferDacTime - times.currentTime  # of out[0]
        if self._silent:
            self._renderer.silence()
            self._silent = False
        while self._waiting and self._waiting[0][1] < dac + frames / self._rate:
            try:
                cue, when = self._waiting.popleft()
            except IndexError:  # it was taken back
                break
            if dac - when > self._late:  # the card stood still: the marker and the decoder did not wait
                self._missed.append((cue, dac - when))
                continue
            start = self._renderer.position
            frame = self._renderer.schedule(
                cue.item, start + round((when - dac) * self._rate), cue.gain_db, cue.number
            )
            self._played.append((cue, when, dac + (frame - start) / self._rate, frame))
        out[:, 0] = self._renderer.render(frames)
        out[:, 1:] = out[:, :1]

    def advance(self):
        """Write down what has been played since the last call, and what came too late to be."""
        while self._missed:
            cue, late = self._missed.popleft()
            self.refuse(cue, f"it would have sounded {late * 1e3:.0f} ms late")
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


class DeviceSink:
    """One output stream, fed by a `Player`; opened anew when its card vanishes and returns.

    Parameters
    ----------
    path : Path
        Of audio.tsv.
    settings : AudioSettings
    sounds : sequence of float32 arrays
        At `settings.rate`; resampled once where the card wants another rate.

    Raises
    ------
    UserError
        The stream cannot be opened.
    """

    def __init__(self, path, settings, sounds):
        self._settings, self._sounds = settings, sounds
        rate = usable_rate(settings)
        if rate != settings.rate:
            sounds = [resampled(sound, settings.rate, rate) for sound in sounds]
        renderer = Renderer(sounds, settings.volume_db, settings.max_db, rate)
        self._player, self._rate = Player(path, renderer, rate, settings.late_seconds), rate
        self._faults, self._lost, self._closed = deque(), None, threading.Event()
        self._again = None
        try:
            self._stream = self._open()
        except Exception as error:  # PortAudio's own errors, or its library's
            raise UserError(
                f"audio.device = {settings.device!r}: the stream cannot be opened: {error}"
            ) from error
        self._keeper = threading.Thread(target=self._keep, name="sound", daemon=True)
        self._keeper.start()

    @property
    def volume_db(self):
        """The volume in force, dB relative to full scale."""
        return self._player.volume_db

    @property
    def lost(self):
        """Why there is no sound at the moment, or None."""
        return self._lost

    def schedule(self, cue, when):
        """Play the cue so that its first frame leaves the converter at `when`."""
        if self._lost is not None:
            self._player.refuse(cue, self._lost)
        else:
            self._player.schedule(cue, when)

    def cancel(self):
        """Take back what the card has not been given; return the cues' numbers."""
        return self._player.cancel()

    def silence(self):
        """Fade out what sounds, take back what waits; return those cues' numbers."""
        return self._player.silence()

    def set_volume(self, db):
        """Change the volume, never above the cap; return it."""
        return self._player.set_volume(db)

    def advance(self, sample):
        """Note what has been played."""
        self._player.advance()

    def played(self):
        """Return what has become of cues since the last call."""
        return self._player.played()

    def take_faults(self):
        """Return [{"state", "reason"}] since the last call."""
        found = []
        while self._faults:
            found.append(self._faults.popleft())
        return found

    def close(self, sample):
        """Let what is in the card's buffer end, then close the stream."""
        self._closed.set()
        self._keeper.join(5)
        time.sleep(2 * _LATENCY)
        self._shut()
        self._player.close()

    def _open(self):
        stream = sounddevice().OutputStream(
            samplerate=self._rate,
            device=device_of(self._settings),
            channels=1,
            dtype="float32",
            latency=_LATENCY,
            callback=self._player.callback,
        )
        self._player.called = time.perf_counter()
        stream.start()
        return stream

    def _shut(self):
        try:
            self._stream.abort()
            self._stream.close()
        except Exception as error:  # a card that is gone cannot be closed either
            logger.debug("closing the sound stream: %s", error)

    def _keep(self):
        """Look after the stream until the session ends."""
        while not self._closed.wait(_LOOK):
            silent = time.perf_counter() - self._player.called > _DEAD
            if self._lost is None and (silent or not self._active()):
                self._lost = "the sound device is gone"
                for number in self._player.cancel():
                    logger.error("cue %d does not sound: %s", number, self._lost)
                self._faults.append({"state": "lost", "reason": self._lost})
            if self._lost is not None and (silent or not self._runs()):
                self._try_again()

    def _runs(self):
        """Whether the stream that was opened again runs; a sound server may take a second to begin."""
        if self._again is None or not self._active():
            return False
        if self._player.called - self._again > _FILLED:
            self._lost = self._again = None
            self._faults.append({"state": "back", "reason": "the sound device is there again"})
        return True

    def _active(self):
        try:
            return self._stream.active
        except Exception as error:  # PortAudio's own errors: what cannot be asked does not play
            logger.debug("asking the sound stream: %s", error)
            return False

    def _try_again(self):
        self._again = None
        self._shut()
        library = sounddevice()
        try:
            library._terminate()  # PortAudio lists the devices once, when it is initialised
            library._initialize()
            self._stream = self._open()
        except Exception as error:  # not there yet
            logger.debug("opening the sound device again: %s", error)
        else:
            self._again = self._player.called


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
        if time.perf_counter() - began > _FILLED:
            enough.set()

    try:
        with sounddevice().OutputStream(
            samplerate=usable_rate(settings), device=device_of(settings), channels=1, dtype="float32",
            latency=_LATENCY, callback=callback,
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
