"""The sounds of the items: stand-ins, a lab's folder of WAV files, or its playlist (CSV or YAML).

The stand-ins carry no meaning; they exist so that a session can be tried before a lab has recorded its
own. Fifteen timbres (more items get the same ones at other pitches), equal RMS, 0.5 s, faded in and out.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import signal

from sleep_interpreter.realtime.Output.mixer import resample_sound
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.utils.core.config import read_yaml
from sleep_interpreter.utils.core.data_card import DataCard, Item
from sleep_interpreter.utils.core.errors import UserError, did_you_mean
from sleep_interpreter.utils.core.paths import atomic_write, display_path
from sleep_interpreter.utils.core.text_tables import told_text

SECONDS = 0.5
FADE_SECONDS = 0.015
_RATES = (1000, 768_000)
"""Hz of a sound."""
RMS = 0.12
PEAK = 0.95

_VOICES = (
    ("tone", 440.0), ("bell", 620.0), ("buzz", 110.0), ("rise", 300.0), ("fall", 2400.0),
    ("tremolo", 880.0), ("vibrato", 520.0), ("hollow", 196.0), ("pluck", 147.0), ("chord", 262.0),
    ("hiss", 2600.0), ("rumble", 240.0), ("clicks", 14.0), ("trill", 1200.0), ("steps", 330.0),
)  # fmt: skip
"""Kind and pitch in Hz, one an item."""
_GOLDEN = (5**0.5 - 1) / 2
"""Octaves, modulo 1, by which the pitch falls every time the timbres begin again: no two are the same."""
_COLUMNS = ("item", "file", "gain_db", "group")


def session_sounds(settings: SessionSettings, card: DataCard) -> list[np.ndarray]:
    """Return the sounds of a card's items: a lab's folder or the stand-ins, a playlist's files in their place.

    They are float32 arrays at `settings.audio.rate`. `UserError` where a file is missing or does not fit.
    """
    audio = settings.audio
    items = card.items
    sounds = list(load_sounds(audio.folder, audio.rate, items) if audio.folder else synthesise(audio.rate, len(items)))
    if settings.cues.playlist is not None:
        for item, path in read_playlist(settings.cues.playlist, card).files.items():
            sounds[item] = read_sound(path, audio.rate, audio.max_seconds, audio.fade_seconds)
    return sounds


def load_sounds(folder: str | Path, rate: int, items: Sequence[Item]) -> np.ndarray:
    """Read the sound file of every item, else `<item>.wav`, at `rate` Hz: float32 (items, rate / 2).

    Raises `UserError`: a missing or unreadable file, wrong sampling rate, length or number of channels, or samples
    that are not finite.
    """
    folder = Path(folder)
    files = [item.sound or f"{item.name}.wav" for item in items]
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise UserError(f"{folder}: missing {', '.join(missing)}; it must hold one sound an item")
    length = round(SECONDS * rate)
    sounds = np.zeros((len(items), length), np.float32)
    for index, file in enumerate(files):
        path = folder / file
        frames, found = _mono(path)
        if found != rate:
            raise UserError(f"{path}: {found} Hz, expected {rate} Hz; or set audio.rate={found}")
        if abs(frames - length) > rate * 1e-3:
            raise UserError(f"{path}: {frames / rate:.3f} s long, expected {SECONDS} s")
        data = _decoded(path, frames)
        count = min(length, len(data))
        sounds[index, :count] = data[:count]
    return sounds


def _mono(path: Path) -> tuple[int, int]:
    """Return the length in samples of a sound and its rate in Hz, by its header; nothing is decoded."""
    import soundfile  # lazy: optional dependency

    if not path.is_file():
        raise UserError(f"{path}: is no file, so no sound")
    try:
        header = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: not readable as a sound: {error}") from error
    if header.channels != 1:
        raise UserError(f"{path}: {header.channels} channels, expected 1 (mono)")
    if not _RATES[0] <= header.samplerate <= _RATES[1]:
        raise UserError(f"{path}: {header.samplerate} Hz, expected {_RATES[0]} to {_RATES[1]} Hz; export it again")
    return header.frames, header.samplerate


def _decoded(path: Path, frames: int) -> np.ndarray:
    """Return the samples (n,) of a sound of so many, float32."""
    import soundfile  # lazy: optional dependency

    try:
        data, _ = soundfile.read(path, frames, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: not readable as a sound: {error}") from error
    if len(data) < frames:
        raise UserError(f"{path}: ends after {len(data)} of {frames} samples; export the sound again")
    if bad := int(np.count_nonzero(~np.isfinite(data))):
        raise UserError(
            f"{path}: {bad} samples are not finite (NaN or infinite); export the sound again, best as 16 bit PCM"
        )
    sound: np.ndarray = data[:, 0]
    return sound


def write_sounds(folder: str | Path, sounds: Sequence[np.ndarray], rate: int, names: Sequence[str]) -> None:
    """Write `<item>.wav` (16 bit, mono) for every item."""
    import soundfile  # lazy: optional dependency

    for item, sound in zip(names, sounds, strict=True):
        with atomic_write(Path(folder) / f"{item}.wav") as temporary:
            soundfile.write(temporary, sound, rate, subtype="PCM_16", format="WAV")


def synthesise(rate: int, count: int) -> np.ndarray:
    """Return the project's stand-ins for so many items, float32 (count, rate / 2), |x| <= 0.95."""
    t = np.arange(round(SECONDS * rate)) / rate
    fade = np.ones_like(t)
    frames = round(FADE_SECONDS * rate)
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(frames) / frames)
    fade[:frames], fade[-frames:] = ramp, ramp[::-1]
    sounds = []
    for index in range(count):
        kind, pitch = _VOICES[index % len(_VOICES)]
        lower = 2 ** -(index // len(_VOICES) * _GOLDEN % 1)
        sound = _voice(kind, pitch * lower, t, rate, np.random.default_rng(index)) * fade
        sound -= sound.mean() * fade / fade.mean()  # no step at either end
        gain = min(RMS / np.sqrt(np.mean(sound**2)), PEAK / np.abs(sound).max())
        sounds.append(sound * gain)
    return np.asarray(sounds, np.float32)


def _partials(t: np.ndarray, pitch: float, numbers: Iterable[float], weights: Iterable[float], rate: int) -> np.ndarray:
    kept = [(n, w) for n, w in zip(numbers, weights, strict=True) if n * pitch < 0.45 * rate]
    return sum((w * np.sin(2 * np.pi * n * pitch * t) for n, w in kept), np.zeros(t.shape))


def _noise(t: np.ndarray, low: float, high: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    sos = signal.butter(4, [low, min(high, 0.45 * rate)], "bandpass", fs=rate, output="sos")
    return signal.sosfilt(sos, rng.standard_normal(t.size))


def _voice(kind: str, pitch: float, t: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    two_pi, harmonics = 2 * np.pi, np.arange(1, 13)
    voices: dict[str, Callable[[], np.ndarray]] = {
        "tone": lambda: np.sin(two_pi * pitch * t),
        "bell": lambda: np.exp(-6 * t) * _partials(t, pitch, (1, 2.76, 5.4, 8.93), (1, 0.6, 0.4, 0.2), rate),
        "buzz": lambda: _partials(t, pitch, harmonics, 1 / harmonics, rate),
        "rise": lambda: signal.chirp(t, pitch, SECONDS, 4 * pitch, method="logarithmic", phi=-90),
        "fall": lambda: signal.chirp(t, pitch, SECONDS, pitch / 4, method="logarithmic", phi=-90),
        "tremolo": lambda: (1 + np.sin(two_pi * 12 * t)) * np.sin(two_pi * pitch * t),
        "vibrato": lambda: np.sin(two_pi * pitch * t + 8 * np.sin(two_pi * 7 * t)),
        "hollow": lambda: _partials(t, pitch, 2 * harmonics - 1, 1 / (2 * harmonics - 1), rate),
        "pluck": lambda: sum(
            (np.exp(-2.5 * n * t) * _partials(t, pitch, (int(n),), (1 / n**0.5,), rate) for n in harmonics),
            np.zeros(t.shape),
        ),
        "chord": lambda: _partials(t, pitch, (1, 1.25, 1.5, 2), (1, 1, 1, 0.5), rate),
        "hiss": lambda: _noise(t, pitch, 1.6 * pitch, rate, rng),
        "rumble": lambda: _noise(t, pitch / 3, pitch, rate, rng),
        "clicks": lambda: np.exp(-60 * (t % (1 / pitch))) * _noise(t, 500, 3400, rate, rng),
        "trill": lambda: np.where(t * 16 % 2 < 1, np.sin(two_pi * pitch * t), np.sin(two_pi * 1.5 * pitch * t)),
        "steps": lambda: np.sin(two_pi * pitch * (1 + np.floor(t * 8)) * t),
    }
    return voices[kind]()


@dataclass(frozen=True)
class Playlist:
    """What is cued.

    `groups`: items of each; `gains`: {item: dB}; `files`: {item: path}, where an item that is absent has the
    stand-in, or the file of audio.folder.
    """

    groups: tuple[tuple[int, ...], tuple[int, ...]]
    gains: dict[int, float]
    files: dict[int, Path]


def read_playlist(path: str | Path, card: DataCard) -> Playlist:
    """Read a playlist of a card's items; `UserError` where it is missing or unreadable, with line and column.

    It is .csv with a header line, or .yaml with a list of mappings: `item`, and if wanted `file` (relative to the
    playlist's folder), `gain_db` (default 0) and `group` (0 or 1; default 0).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: playlist not found")
    names = card.item_names
    try:
        rows = _from_csv(path) if path.suffix.lower() == ".csv" else _from_yaml(path)
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read as a table ({error})") from None
    groups: tuple[list[int], list[int]] = [], []
    gains: dict[int, float] = {}
    files: dict[int, Path] = {}
    for where, row in rows:
        item = _item(row.get("item"), where, names)
        if item in gains:
            raise UserError(f"{where}: item {names[item]!r} is listed twice")
        gains[item] = _number(row.get("gain_db") or 0.0, "gain_db", where, -60, 20)
        group = _number(row.get("group") or 0, "group", where, 0, 1)
        if group not in (0, 1):
            raise UserError(f"{where}, group: {row['group']!r}, expected 0 or 1")
        groups[int(group)].append(item)
        if row.get("file"):
            files[item] = path.parent / str(row["file"])
            if not files[item].is_file():
                raise UserError(f"{where}, file: {files[item]} does not exist")
    if not gains:
        raise UserError(f"{path}: the playlist lists no item")
    first, second = groups
    return Playlist((tuple(first or second), tuple(second or first)), gains, files)  # one group has every turn


def read_sound(path: Path, rate: int, max_seconds: float, fade_seconds: float) -> np.ndarray:
    """Read a mono sound of any rate, float32 (n,) at `rate`, faded in and out, clipped to full scale.

    Raises `UserError`: not readable, not mono, longer than `max_seconds`, or not finite.
    """
    frames, found = _mono(path)
    if not 0 < frames <= round(max_seconds * found) + found // 1000:
        raise UserError(f"{path}: {frames / found:.3f} s long; audio.max_seconds permits {max_seconds:g} s")
    sound = resample_sound(_decoded(path, frames), found, rate)
    return faded(np.clip(sound, -1, 1), round(fade_seconds * rate))


def faded(sound: np.ndarray, frames: int) -> np.ndarray:
    """Return a sound (n,) whose first and last `frames` rise from and fall to zero."""
    frames = min(frames, len(sound) // 2)
    if frames:
        ramp = np.arange(frames, dtype=np.float32) / frames
        sound = sound.copy()
        sound[:frames] *= ramp
        sound[-frames:] *= ramp[::-1]
    return sound


def _from_csv(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(told_text(path), newline=""))
    unknown = [c for c in reader.fieldnames or [] if c not in _COLUMNS]
    if unknown or "item" not in (reader.fieldnames or []):
        found = ", ".join(map(str, reader.fieldnames or [])) or "none"
        raise UserError(f"{path}: columns {found}; there must be item, and may be file, gain_db, group")
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for row in reader:
        where = f"{display_path(path)}, line {reader.line_num}"
        if None in row or None in row.values():
            raise UserError(f"{where}: another number of cells than the header has")
        rows.append((where, {key: value.strip() for key, value in row.items()}))
    return rows


def _from_yaml(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    content = read_yaml(path)
    rows = content.get("cues") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a list of cues under `cues`")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or set(row) - set(_COLUMNS):
            raise UserError(f"{path}, cue {number}: expected {', '.join(_COLUMNS)}, found {row!r}")
    return [(f"{display_path(path)}, cue {number}", row) for number, row in enumerate(rows, start=1)]


def _item(name: Any, where: str, names: tuple[str, ...]) -> int:
    if name not in names:
        hint = did_you_mean(name, names, f"items: {', '.join(names)}")
        raise UserError(f"{where}, item: {name!r} is no item; {hint}")
    return names.index(name)


def _number(value: Any, column: str, where: str, low: float, high: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UserError(f"{where}, {column}: {value!r} is no number") from None
    if not low <= number <= high:
        raise UserError(f"{where}, {column}: {number:g}; permitted are {low:g} to {high:g}")
    return number
