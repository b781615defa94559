"""Cues through a sound card: one stream, open all night.

If the card vanishes, cues do not sound, the session is told, and the stream is opened anew as soon as the
same card is there again.
"""

import logging
import re
import threading
import time
from collections import deque

from sleep_interpreter.realtime.Output.mixer import Renderer
from sleep_interpreter.realtime.Output.player import (
    FILLED,
    LATENCY,
    Player,
    device_of,
    resampled,
    sounddevice,
    usable_rate,
)
from sleep_interpreter.utils.core.errors import UserError

logger = logging.getLogger(__name__)

_LOOK = 0.25
"""Seconds between two looks whether the stream is alive."""
_DEAD = 2.0
"""Seconds without a request for frames after which the card is taken for lost."""
_AGAIN = 5.0
"""Seconds between two attempts to open a card that is lost: each lists all devices, which costs memory."""


class DeviceSink:
    """One output stream, fed by a `Player`; opened anew when its card vanishes and returns.

    A card is known by its name: after PortAudio has listed the devices anew, its number, or the default, may
    be another card, of another loudness and in another room.

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
        rate = usable_rate(settings)
        if rate != settings.rate:
            sounds = [resampled(sound, settings.rate, rate) for sound in sounds]
        renderer = Renderer(sounds, settings.volume_db, settings.max_db, rate)
        self._player, self._rate = Player(path, renderer, rate, settings.late_seconds), rate
        self._faults, self._lost, self._closed = deque(), None, threading.Event()
        self._again, self._due = None, 0.0
        try:
            self._known, self._name = identity(device_of(settings))
            self._stream = self._open(device_of(settings))
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
            if self._lost is not None:  # just now
                self._player.lose(self._lost)

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
        time.sleep(2 * LATENCY)
        self._shut()
        self._player.close()

    def _open(self, device):
        stream = sounddevice().OutputStream(
            samplerate=self._rate,
            device=device,
            channels=1,
            dtype="float32",
            latency=LATENCY,
            callback=self._player.callback,
        )
        self._player.called = time.perf_counter()
        stream.start()
        return stream

    def _shut(self):
        if self._stream is None:
            return
        try:
            self._stream.abort()
            self._stream.close()
        except Exception as error:  # a card that is gone cannot be closed either
            logger.debug("closing the sound stream: %s", error)
        self._stream = None

    def _keep(self):
        """Look after the stream until the session ends."""
        while not self._closed.wait(_LOOK):
            silent = time.perf_counter() - self._player.called > _DEAD
            if self._lost is None and (silent or not self._active()):
                self._lost = f"the sound device {self._name} is gone"
                self._player.lose(self._lost)
                self._faults.append({"state": "lost", "reason": self._lost})
            waits = self._lost is not None and (silent or not self._runs())
            if waits and time.perf_counter() >= self._due:
                self._try_again()
                self._due = time.perf_counter() + _AGAIN

    def _runs(self):
        """Whether the stream that was opened again runs; a sound server may take a second to begin."""
        if self._again is None or not self._active():
            return False
        if self._player.called - self._again > FILLED:
            self._lost = self._again = None
            self._faults.append({"state": "back", "reason": "the sound device is there again"})
        return True

    def _active(self):
        try:
            return self._stream is not None and self._stream.active
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
            self._stream = self._open(self._known())
        except Exception as error:  # not there yet
            logger.debug("opening the sound device again: %s", error)
        else:
            self._again = self._player.called


def identity(device):
    """Return how an output device can be found again after PortAudio has listed the devices anew.

    Parameters
    ----------
    device : int | str | None
        As PortAudio wants it.

    Returns
    -------
    again : callable
        `again()` gives the number under which it is listed then; LookupError where it is not.
    name : str
    """
    library = sounddevice()

    def exact(found):
        return library.query_hostapis(found["hostapi"])["name"], found["name"]

    def alike(found):  # ALSA's name ends in the card's number, another one when it is plugged in again
        api, name = exact(found)
        return api, re.sub(r"\(hw:\d+,", "(hw:,", name)

    def listed(key, wanted):
        devices = enumerate(library.query_devices())
        return [k for k, found in devices if found["max_output_channels"] > 0 and key(found) == wanted]

    first = library.query_devices(device, "output")
    key = alike if len(listed(alike, alike(first))) == 1 else exact  # of two equal cards only this one
    wanted = key(first)

    def again():
        numbers = listed(key, wanted)
        if len(numbers) != 1:
            raise LookupError(f"{len(numbers)} output devices are called {first['name']!r}")
        return numbers[0]

    return again, repr(first["name"])
