"""The sounds of the 15 items: a lab's own WAV files, or stand-ins synthesised here.

The stand-ins carry no meaning; they exist so that a session can be tried before a lab has recorded its
own. Fifteen timbres, equal RMS, 0.5 s, faded in and out.
"""

from pathlib import Path

import numpy as np
from scipy import signal

from sleep_interpreter.utils.core.constants import ITEMS
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import shown, writing

SECONDS = 0.5
FADE_SECONDS = 0.015
RMS = 0.12
PEAK = 0.95

_VOICES = (
    ("tone", 440.0), ("bell", 620.0), ("buzz", 110.0), ("rise", 300.0), ("fall", 2400.0),
    ("tremolo", 880.0), ("vibrato", 520.0), ("hollow", 196.0), ("pluck", 147.0), ("chord", 262.0),
    ("hiss", 2600.0), ("rumble", 240.0), ("clicks", 14.0), ("trill", 1200.0), ("steps", 330.0),
)  # fmt: skip
"""Kind and pitch in Hz, one an item."""


def load_sounds(folder, rate):
    """Read `<item>.wav` for every item.

    Parameters
    ----------
    folder : str | Path
    rate : int
        Hz that every file must have.

    Returns
    -------
    sounds : float32 array, shape (15, rate / 2)

    Raises
    ------
    UserError
        A missing or unreadable file, wrong sampling rate, length or number of channels, or samples that
        are not finite.
    """
    import soundfile

    folder = Path(folder)
    missing = [f"{item}.wav" for item in ITEMS if not (folder / f"{item}.wav").is_file()]
    if missing:
        raise UserError(f"{shown(folder)}: missing {', '.join(missing)}; it must hold one WAV an item")
    length = round(SECONDS * rate)
    sounds = np.zeros((len(ITEMS), length), np.float32)
    for index, item in enumerate(ITEMS):
        path = folder / f"{item}.wav"
        try:
            data, found = soundfile.read(path, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise UserError(f"{shown(path)}: not readable as a WAV file: {error}") from error
        if found != rate:
            raise UserError(f"{shown(path)}: {found} Hz, expected {rate} Hz; or set audio.rate={found}")
        if data.shape[1] != 1:
            raise UserError(f"{shown(path)}: {data.shape[1]} channels, expected 1 (mono)")
        if abs(len(data) - length) > rate * 1e-3:
            raise UserError(f"{shown(path)}: {len(data) / rate:.3f} s long, expected {SECONDS} s")
        if not np.isfinite(data).all():
            bad = int(np.count_nonzero(~np.isfinite(data)))
            raise UserError(
                f"{shown(path)}: {bad} samples are not finite (NaN or infinite); export the sound again, "
                "best as 16 bit PCM"
            )
        count = min(length, len(data))
        sounds[index, :count] = data[:count, 0]
    return sounds


def write_sounds(folder, sounds, rate):
    """Write `<item>.wav` (16 bit, mono) for every item."""
    import soundfile

    for item, sound in zip(ITEMS, sounds, strict=True):
        with writing(Path(folder) / f"{item}.wav") as temporary:
            soundfile.write(temporary, sound, rate, subtype="PCM_16", format="WAV")


def synthesise(rate):
    """Return the project's 15 stand-ins, float32 (15, rate / 2), |x| <= 0.95."""
    t = np.arange(round(SECONDS * rate)) / rate
    fade = np.ones_like(t)
    count = round(FADE_SECONDS * rate)
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(count) / count)
    fade[:count], fade[-count:] = ramp, ramp[::-1]
    sounds = []
    for index, (kind, pitch) in enumerate(_VOICES):
        sound = _voice(kind, pitch, t, rate, np.random.default_rng(index)) * fade
        sound -= sound.mean() * fade / fade.mean()  # no step at either end
        gain = min(RMS / np.sqrt(np.mean(sound**2)), PEAK / np.abs(sound).max())
        sounds.append(sound * gain)
    return np.asarray(sounds, np.float32)


def _partials(t, pitch, numbers, weights, rate):
    kept = [(n, w) for n, w in zip(numbers, weights, strict=True) if n * pitch < 0.45 * rate]
    return sum(w * np.sin(2 * np.pi * n * pitch * t) for n, w in kept)


def _noise(t, low, high, rate, rng):
    sos = signal.butter(4, [low, min(high, 0.45 * rate)], "bandpass", fs=rate, output="sos")
    return signal.sosfilt(sos, rng.standard_normal(t.size))


def _voice(kind, pitch, t, rate, rng):
    two_pi = 2 * np.pi
    harmonics = np.arange(1, 13)
    match kind:
        case "tone":
            return np.sin(two_pi * pitch * t)
        case "bell":
            return np.exp(-6 * t) * _partials(t, pitch, (1, 2.76, 5.4, 8.93), (1, 0.6, 0.4, 0.2), rate)
        case "buzz":
            return _partials(t, pitch, harmonics, 1 / harmonics, rate)
        case "rise":
            return signal.chirp(t, pitch, SECONDS, 4 * pitch, method="logarithmic", phi=-90)
        case "fall":
            return signal.chirp(t, pitch, SECONDS, pitch / 4, method="logarithmic", phi=-90)
        case "tremolo":
            return (1 + np.sin(two_pi * 12 * t)) * np.sin(two_pi * pitch * t)
        case "vibrato":
            return np.sin(two_pi * pitch * t + 8 * np.sin(two_pi * 7 * t))
        case "hollow":
            return _partials(t, pitch, 2 * harmonics - 1, 1 / (2 * harmonics - 1), rate)
        case "pluck":
            return sum(
                np.exp(-2.5 * n * t) * _partials(t, pitch, (n,), (1 / n**0.5,), rate) for n in harmonics
            )
        case "chord":
            return _partials(t, pitch, (1, 1.25, 1.5, 2), (1, 1, 1, 0.5), rate)
        case "hiss":
            return _noise(t, pitch, 1.6 * pitch, rate, rng)
        case "rumble":
            return _noise(t, pitch / 3, pitch, rate, rng)
        case "clicks":
            return np.exp(-60 * (t % (1 / pitch))) * _noise(t, 500, 3400, rate, rng)
        case "trill":
            return np.where(t * 16 % 2 < 1, np.sin(two_pi * pitch * t), np.sin(two_pi * 1.5 * pitch * t))
        case "steps":
            return np.sin(two_pi * pitch * (1 + np.floor(t * 8)) * t)
    raise ValueError(f"unknown voice {kind!r}")
