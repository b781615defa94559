"""A lab's own list of cues: item, sound file, gain and group, from CSV or YAML."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sleep_interpreter.realtime.Cues.sounds import load_sounds, synthesise
from sleep_interpreter.realtime.Output.mixer import resample_sound
from sleep_interpreter.utils.core.config import read_yaml
from sleep_interpreter.utils.core.constants import ITEMS
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.paths import shown

_COLUMNS = ("item", "file", "gain_db", "group")


@dataclass(frozen=True)
class Playlist:
    """What is cued.

    Attributes
    ----------
    groups : tuple of 2 tuples of int
        Items of each group.
    gains : dict
        {item: dB}.
    files : dict
        {item: Path}; an item that is absent has the stand-in, or the file of audio.folder.
    """

    groups: tuple
    gains: dict
    files: dict


def read_playlist(path):
    """Read a playlist.

    Parameters
    ----------
    path : str | Path
        .csv with a header line, or .yaml with a list of mappings: `item`, and if wanted `file` (relative to
        the playlist's folder), `gain_db` (default 0) and `group` (0 or 1; default 0).

    Raises
    ------
    UserError
        Missing or unreadable; the line and column of what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{shown(path)}: playlist not found")
    rows = _from_csv(path) if path.suffix.lower() == ".csv" else _from_yaml(path)
    groups, gains, files = ([], []), {}, {}
    for where, row in rows:
        item = _item(row.get("item"), where)
        if item in gains:
            raise UserError(f"{where}: item {ITEMS[item]!r} is listed twice")
        gains[item] = _number(row.get("gain_db") or 0.0, "gain_db", where, -60, 20)
        group = _number(row.get("group") or 0, "group", where, 0, 1)
        if group not in (0, 1):
            raise UserError(f"{where}, group: {row['group']!r}, expected 0 or 1")
        groups[int(group)].append(item)
        if row.get("file"):
            files[item] = path.parent / str(row["file"])
            if not files[item].is_file():
                raise UserError(f"{where}, file: {shown(files[item])} does not exist")
    if not gains:
        raise UserError(f"{shown(path)}: the playlist lists no item")
    if not all(groups):  # one group: it has every turn
        groups = (groups[0] or groups[1],) * 2
    return Playlist(tuple(map(tuple, groups)), gains, files)


def read_sound(path, rate, max_seconds, fade_seconds):
    """Read a mono sound of any rate, float32 (n,) at `rate`, faded in and out.

    Raises
    ------
    UserError
        Not readable, not mono, longer than `max_seconds`, not finite, or beyond full scale.
    """
    import soundfile

    try:
        data, found = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise UserError(f"{shown(path)}: not readable as a sound: {error}") from error
    if data.shape[1] != 1:
        raise UserError(f"{shown(path)}: {data.shape[1]} channels, expected 1 (mono)")
    if not np.isfinite(data).all():
        raise UserError(f"{shown(path)}: holds samples that are not finite; export it again as 16 bit PCM")
    if not 0 < len(data) <= round(max_seconds * found) + found // 1000:
        raise UserError(
            f"{shown(path)}: {len(data) / found:.3f} s long; audio.max_seconds permits {max_seconds:g} s"
        )
    sound = resample_sound(data[:, 0], found, rate)
    return faded(np.clip(sound, -1, 1), round(fade_seconds * rate))


def faded(sound, frames):
    """Return a sound (n,) whose first and last `frames` rise from and fall to zero."""
    frames = min(frames, len(sound) // 2)
    if frames:
        ramp = np.arange(frames, dtype=np.float32) / frames
        sound = sound.copy()
        sound[:frames] *= ramp
        sound[-frames:] *= ramp[::-1]
    return sound


def _from_csv(path):
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle)
        unknown = [c for c in reader.fieldnames or [] if c not in _COLUMNS]
        if unknown or "item" not in (reader.fieldnames or []):
            found = ", ".join(map(str, reader.fieldnames or [])) or "none"
            raise UserError(
                f"{shown(path)}: columns {found}; there must be item, and may be file, gain_db, group"
            )
        rows = []
        for row in reader:
            where = f"{shown(path)}, line {reader.line_num}"
            if None in row or None in row.values():
                raise UserError(f"{where}: another number of cells than the header has")
            rows.append((where, {key: value.strip() for key, value in row.items()}))
    return rows


def _from_yaml(path):
    content = read_yaml(path)
    rows = content.get("cues") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise UserError(f"{shown(path)}: expected a list of cues under `cues`")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or set(row) - set(_COLUMNS):
            raise UserError(f"{shown(path)}, cue {number}: expected {', '.join(_COLUMNS)}, found {row!r}")
    return [(f"{shown(path)}, cue {number}", row) for number, row in enumerate(rows, start=1)]


def _item(name, where):
    if name not in ITEMS:
        close = nearest(str(name), ITEMS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"items: {', '.join(ITEMS)}"
        raise UserError(f"{where}, item: {name!r} is no item; {hint}")
    return ITEMS.index(name)


def _number(value, column, where, low, high):
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UserError(f"{where}, {column}: {value!r} is no number") from None
    if not low <= number <= high:
        raise UserError(f"{where}, {column}: {number:g}; permitted are {low:g} to {high:g}")
    return number


def sounds_of(settings):
    """Return the 15 sounds of a session: a lab's folder or the stand-ins, a playlist's files in their place.

    Parameters
    ----------
    settings : SessionSettings

    Returns
    -------
    sounds : list of float32 arrays
        At `settings.audio.rate`.

    Raises
    ------
    UserError
        A file is missing or does not fit.
    """
    audio = settings.audio
    sounds = list(load_sounds(audio.folder, audio.rate) if audio.folder else synthesise(audio.rate))
    if settings.cues.playlist is not None:
        for item, path in read_playlist(settings.cues.playlist).files.items():
            sounds[item] = read_sound(path, audio.rate, audio.max_seconds, audio.fade_seconds)
    return sounds
