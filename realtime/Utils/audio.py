"""Cues as sound: one renderer, and two places where its frames go.

A sink has `schedule(cue, when)`, `advance(sample)` (the stream has reached this sample) and
`close(sample)`; `when` is the onset on the `time.perf_counter` clock, None when time is not paced.
"""

import logging
import time
from collections import deque

import numpy as np

from utils.errors import UserError
from utils.vocabulary import ITEMS, STREAM_RATE

logger = logging.getLogger(__name__)

_BLOCK = 2**16  # frames rendered into a file at a time


class Renderer:
    """Mix scheduled sounds into consecutive blocks of frames.

    Parameters
    ----------
    sounds : float32 array, shape (15, length)
    volume_db, max_db : float
        Gain, and the level no frame ever exceeds, relative to full scale.

    Attributes
    ----------
    position : int
        Frames rendered so far.
    """

    def __init__(self, sounds, volume_db, max_db):
        self._sounds = sounds * np.float32(10 ** (volume_db / 20))
        self._cap = np.float32(10 ** (max_db / 20))
        self._active = []  # (item, frame of its onset)
        self.position = 0

    def schedule(self, item, frame):
        """Let `item` sound from `frame` on, or from the next frame when that one is past.

        Returns
        -------
        frame : int
            Where it will really begin.
        """
        frame = max(frame, self.position)
        self._active.append((item, frame))
        return frame

    def render(self, count):
        """Return the next `count` frames, float32 (count,)."""
        block = np.zeros(count, np.float32)
        stop = self.position + count
        still = []
        for item, onset in self._active:
            sound = self._sounds[item]
            first, last = max(onset, self.position), min(onset + sound.size, stop)
            if first < last:
                block[first - self.position : last - self.position] += sound[first - onset : last - onset]
            if onset + sound.size > stop:
                still.append((item, onset))
        self._active = still
        self.position = stop
        return np.clip(block, -self._cap, self._cap, out=block)


class FileSink:
    """The session's sound as a FLAC file on the sample clock: frame f belongs to sample f / rate * 500.

    Parameters
    ----------
    path : Path
    renderer : Renderer
    rate : int
        Hz.
    """

    def __init__(self, path, renderer, rate):
        import soundfile

        self._renderer = renderer
        self._rate = rate
        self._file = soundfile.SoundFile(path, "w", rate, 1, "PCM_16", format="FLAC")

    def schedule(self, cue, when=None):
        """Render the cue from its onset sample on."""
        frame = self._frame(cue.onset)
        begins = self._renderer.schedule(cue.item, frame)
        if begins != frame:
            raise RuntimeError(f"cue {cue.number}: onset on frame {frame}, but the file is at {begins}")

    def advance(self, sample):
        """Write everything up to `sample`."""
        while (count := self._frame(sample) - self._renderer.position) > 0:
            self._file.write(self._renderer.render(min(count, _BLOCK)))

    def close(self, sample):
        """Write the rest and close the file."""
        self.advance(sample)
        self._file.close()

    def _frame(self, sample):
        return round(sample * self._rate / STREAM_RATE)


class Player:
    """Fill the blocks of an output stream so that each cue starts on the frame of its DAC time.

    Every cue's requested and real DAC time (perf_counter clock) goes into a table as it is played.

    Parameters
    ----------
    path : Path
        Of the table (audio.tsv).
    renderer : Renderer
    rate : int
    """

    def __init__(self, path, renderer, rate):
        self._renderer = renderer
        self._rate = rate
        self._waiting = deque()
        self._played = deque()
        self.underflows = 0
        self._table = path.open("x", encoding="utf-8")
        self._table.write("cue\titem\tonset_sample\trequested_s\tdac_s\tlate_ms\n")

    def schedule(self, cue, when):
        """Play the cue so that its first frame leaves the converter at `when`."""
        self._waiting.append((cue, when))

    def callback(self, out, frames, times, status):
        """Fill one block; PortAudio calls this in its own thread."""
        if status:
            self.underflows += 1
        dac = time.perf_counter() + times.outputBufferDacTime - times.currentTime  # of out[0]
        while self._waiting and self._waiting[0][1] < dac + frames / self._rate:
            cue, when = self._waiting.popleft()
            start = self._renderer.position
            frame = self._renderer.schedule(cue.item, start + round((when - dac) * self._rate))
            self._played.append((cue, when, dac + (frame - start) / self._rate))
        out[:, 0] = self._renderer.render(frames)

    def advance(self):
        """Write down what has been played since the last call."""
        while self._played:
            cue, when, dac = self._played.popleft()
            times = f"{when:.6f}\t{dac:.6f}\t{(dac - when) * 1e3:.3f}"
            self._table.write(f"{cue.number}\t{ITEMS[cue.item]}\t{cue.onset}\t{times}\n")
            self._table.flush()

    def close(self):
        """Close the table."""
        self.advance()
        self._table.close()
        if self.underflows:
            logger.warning("the sound card ran dry %d times", self.underflows)


class DeviceSink:
    """One output stream, open all night, fed by a `Player`.

    Parameters
    ----------
    player : Player
    rate : int
    device : str | int | None
    """

    def __init__(self, player, rate, device=None):
        sounddevice = _sounddevice()
        self._player = player
        self._stream = sounddevice.OutputStream(
            samplerate=rate,
            device=device,
            channels=1,
            dtype="float32",
            latency=0.03,
            callback=player.callback,
        )
        self._stream.start()

    def schedule(self, cue, when):
        """Play the cue so that its first frame leaves the converter at `when`."""
        self._player.schedule(cue, when)

    def advance(self, sample):
        """Note what has been played."""
        self._player.advance()

    def close(self, sample):
        """Let what is in the card's buffer end, then close the stream."""
        self._stream.stop()
        self._stream.close()
        self._player.close()


def choose_sink(settings, speed):
    """Return "file" or "device", and why.

    Parameters
    ----------
    settings : AudioSettings
    speed : float
        Of the source; only at 1 does a sound card make sense.

    Raises
    ------
    UserError
        A device is asked for and there is none, or the speed is not 1.
    """
    if settings.sink == "file":
        return "file", "asked for"
    lacking = (
        _no_device(settings) if speed == 1 else f"a sound card needs --speed 1, this is --speed {speed:g}"
    )
    if settings.sink == "device":
        if lacking:
            raise UserError(f"audio.sink = 'device': {lacking}")
        return "device", "asked for"
    return ("file", lacking) if lacking else ("device", "speed 1 and an output device is there")


def open_sink(kind, settings, folder, sounds):
    """Return the sink of that kind, writing into the session's folder."""
    renderer = Renderer(sounds, settings.volume_db, settings.max_db)
    if kind == "file":
        return FileSink(folder / "cues.flac", renderer, settings.rate)
    player = Player(folder / "audio.tsv", renderer, settings.rate)
    return DeviceSink(player, settings.rate, _device(settings))


def _device(settings):
    """Return the device as PortAudio wants it: a number, a name or None."""
    return int(settings.device) if settings.device and settings.device.isdigit() else settings.device


def _no_device(settings):
    """Return why no output device can be used, or None."""
    try:
        sounddevice = _sounddevice()
    except UserError as error:
        return str(error)
    if not any(d["max_output_channels"] > 0 for d in sounddevice.query_devices()):
        return "this machine has no output device"
    try:
        sounddevice.check_output_settings(_device(settings), channels=1, samplerate=settings.rate)
    except (sounddevice.PortAudioError, ValueError) as error:
        return f"audio.device = {settings.device!r} cannot play {settings.rate} Hz mono ({error})"
    return None


def _sounddevice():
    try:
        import sounddevice
    except ImportError:
        raise UserError("the package sounddevice is not installed (pip install -e '.[realtime]')") from None
    except OSError:
        raise UserError("the PortAudio library is missing (Debian, Ubuntu: libportaudio2)") from None
    return sounddevice
