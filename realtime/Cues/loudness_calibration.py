"""How loud the cues may be for one sleeper: threshold of hearing by a staircase, the session's level from it.

The rule is the modified Hughson-Westlake one of audiometry (Carhart and Jerger 1959, J Speech Hear Disord 24:330): 10
dB down after each sound that was heard, 5 dB up after each that was not; the threshold is the lowest level at which
at least two of three sounds were heard on the way up. Silent catch trials tell whether the answers mean anything.
Levels are dB relative to full scale: they hold for one device at one setting of the system's own volume.
"""

import hashlib
import logging
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import Field

from sleep_interpreter.realtime.Cues.sounds import session_sounds
from sleep_interpreter.realtime.Output.sound_card import device_problem, play_now
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Parameters.output import AudioSettings
from sleep_interpreter.realtime.Parameters.session_cards import session_cards
from sleep_interpreter.realtime.Subject import Subject, load_subject
from sleep_interpreter.realtime.Utils.registries import SOURCES
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.config import Settings, read_yaml, validate
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import RESULTS, atomic_write, display_path

logger = logging.getLogger(__name__)

Present = Callable[[int, float | None], bool]
"""`present(item, level)` plays the item's sound at that level in dB (None: silence): was it heard?"""

DOWN_DB, UP_DB = 10.0, 5.0
FLOOR_DB = -100.0
"""Below it there is nothing in 16 bits."""
_NEEDED, _OF = 2, 3
_MOST = 60
_GUESSED = 1 / 3
"""Share of catch trials that were "heard" above which the answers are not believed."""
_PAUSE_SECONDS = (0.8, 2.0)
"""Between the announcement and the sound: uniform, so that it cannot be guessed."""


class LoudnessCalibration(Settings):
    """A calibration file."""

    subject: str
    measured: str
    volume_db: float = Field(ge=-120)
    threshold_db: float
    above_db: float
    max_db: float = Field(le=0)
    device: str | None
    rate: int
    sounds: str
    catch_trials: int = Field(ge=0)
    catch_heard: int = Field(ge=0)
    simulated: bool
    trials: list[dict[str, Any]]


class Staircase:
    """Levels to present, and the threshold that follows from the answers.

    The first level is `start_db`, none is above the cap `max_db`. `level`: of the next sound, dB; `threshold`: once
    it is known.
    """

    def __init__(self, start_db: float, max_db: float) -> None:
        self._max = max_db
        self.level = min(start_db, max_db)
        self.threshold: float | None = None
        self._rising = False
        self._ascending: defaultdict[float, list[bool]] = defaultdict(list)
        self._missed_at_cap = 0

    def answer(self, heard: bool) -> None:
        """Take the answer to the sound at `level` and move on; `UserError` when nothing is heard at the cap."""
        level = self.level
        if self._rising:
            self._ascending[level].append(heard)
        answers = self._ascending[level]
        if heard and (level <= FLOOR_DB or (sum(answers) >= _NEEDED and len(answers) <= _OF)):
            self.threshold = level
            return
        if not heard and level >= self._max:
            self._missed_at_cap += 1
            if self._missed_at_cap >= _NEEDED:
                raise UserError(
                    f"nothing is heard at the cap (audio.max_db = {self._max:g} dB): look at cable, "
                    "headphones and the system's volume"
                )
        if len(answers) >= _OF:  # not two of three: this level is below the threshold
            answers.clear()
        self._rising = not heard
        self.level = min(self._max, max(FLOOR_DB, level + (-DOWN_DB if heard else UP_DB)))


def measure(
    present: Present, names: Sequence[str], start_db: float, max_db: float, random: np.random.Generator,
    catch_share: float = 0.2,
) -> tuple[float, list[dict[str, Any]]]:  # fmt: skip
    """Find the threshold of hearing; return it in dB relative to full scale, and the trials.

    `names` are the items'; `random` draws the items and the catch trials, a share `catch_share` of silence. A trial
    has item, level_db (None: a catch trial) and heard. `UserError`: nothing is heard at the cap, silence is "heard"
    too often, or the answers do not settle.
    """
    staircase = Staircase(start_db, max_db)
    trials: list[dict[str, Any]] = []
    items: list[int] = []
    while staircase.threshold is None:
        if len(trials) >= _MOST:
            raise UserError(f"no threshold after {_MOST} sounds: the answers do not settle; begin anew")
        catch = bool(trials) and random.random() < catch_share
        items = items or list(random.permutation(len(names)))
        item = int(items.pop())
        level = None if catch else staircase.level
        heard = bool(present(item, level))
        trials.append({"item": names[item], "level_db": level, "heard": heard})
        if not catch:
            staircase.answer(heard)
    catches = [trial["heard"] for trial in trials if trial["level_db"] is None]
    if catches and sum(catches) / len(catches) > _GUESSED:
        raise UserError(
            f"{sum(catches)} of {len(catches)} silent trials were heard: the answers are guesses; begin anew"
        )
    return staircase.threshold, trials


def simulated_listener(threshold_db: float, random: np.random.Generator, slope_db: float = 2.0) -> Present:
    """Return a `present` that hears as a logistic function of the level, for trying without a listener."""

    def present(item: int, level: float | None) -> bool:
        return level is not None and random.random() < 1 / (1 + math.exp(-(level - threshold_db) / slope_db))

    return present


def fingerprint(sounds: Sequence[np.ndarray]) -> str:
    """Return a hash of the sounds that were heard, so that others are not played at their level."""
    digest = hashlib.sha256()
    for sound in sounds:
        digest.update(np.ascontiguousarray(sound, np.float32).tobytes())
    return digest.hexdigest()[:16]


def save(
    folder: str | Path, subject: str, audio: AudioSettings, sounds: Sequence[np.ndarray],
    measured: tuple[float, list[dict[str, Any]]], above_db: float, simulated: bool = False,
) -> Path:  # fmt: skip
    """Write a calibration into the next free `calibration_NNN.yaml` of a folder; return its path.

    `measured` is as `measure` returns it; `above_db` is the session's level above the threshold; `simulated`: there
    was no listener.
    """
    threshold, trials = measured
    catches = [trial["heard"] for trial in trials if trial["level_db"] is None]
    content = LoudnessCalibration(
        subject=subject, measured=datetime.now(UTC).isoformat(timespec="seconds"),
        volume_db=min(threshold + above_db, audio.max_db), threshold_db=threshold, above_db=above_db,
        max_db=audio.max_db, device=audio.device, rate=audio.rate, sounds=fingerprint(sounds),
        catch_trials=len(catches), catch_heard=sum(catches), simulated=simulated, trials=trials,
    )  # fmt: skip
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while (path := folder / f"calibration_{number:03d}.yaml").exists():
        number += 1
    with atomic_write(path) as temporary:
        temporary.write_text(yaml.safe_dump(content.model_dump(), sort_keys=False), encoding="utf-8")
    return path


def load(path: str | Path) -> LoudnessCalibration:
    """Return the `LoudnessCalibration` in a file; `UserError` where it cannot be read, or is no calibration."""
    return validate(LoudnessCalibration, read_yaml(Path(path)), display_path(Path(path)))


def apply(settings: SessionSettings, subject: Subject) -> SessionSettings:
    """Return settings whose volume is that of the subject's calibration; the same without one.

    Raises `UserError`: the calibration is of another subject or device, above the cap, or of a simulated listener
    while cues go to a real one.
    """
    audio = settings.audio
    if audio.calibration is None:
        return settings
    where = f"audio.calibration: {audio.calibration}"
    if not Path(audio.calibration).is_file():
        raise UserError(f"{where}: there is no such file; realtime/calibrate.py makes one")
    found = load(audio.calibration)
    if found.subject != subject.id:
        raise UserError(f"{where} is of subject {found.subject!r}, this is {subject.id!r}")
    if found.volume_db > audio.max_db:
        raise UserError(
            f"{where}: volume_db {found.volume_db:g} is above the cap audio.max_db {audio.max_db:g}; "
            "calibrate again with this cap"
        )
    if found.device != audio.device or found.rate != audio.rate:
        raise UserError(
            f"{where} was measured with audio.device {found.device}, audio.rate {found.rate}; this is "
            f"{audio.device}, {audio.rate}"
        )
    if found.simulated and SOURCES.load(settings.source.kind).amplifier:
        raise UserError(f"{where} is of a simulated listener: calibrate with the sleeper")
    return settings.model_copy(update={"audio": audio.model_copy(update={"volume_db": found.volume_db})})


def check_sounds(settings: SessionSettings, sounds: Sequence[np.ndarray]) -> str | None:
    """Return what the log says of the calibration, None without one; `UserError` where its sounds were others."""
    path = settings.audio.calibration
    if path is None:
        return None
    found = load(path)
    if found.sounds != fingerprint(sounds):
        raise UserError(f"audio.calibration: {path} was measured with other sounds; calibrate again")
    return (
        f"volume {found.volume_db:g} dB from {display_path(Path(path))}: {found.above_db:g} dB above the threshold "
        f"of {found.threshold_db:g} dB measured {found.measured}"
    )


def calibrate(
    identifier: str, source: str | None = None, overrides: Sequence[str] = (), above_db: float = 10.0,
    simulated: float | None = None, folder: Path | None = None, ask: Callable[[], str] | None = None,
) -> tuple[Path, LoudnessCalibration]:  # fmt: skip
    """Measure the threshold of the subject `identifier` and write the calibration; return its path and content.

    `source`: settings file, None = params/realtime.yaml; `above_db`: the session's level above the threshold, dB;
    `simulated`: threshold in dB of a simulated listener, nothing sounds; `folder`: None = results/realtime/ID;
    `ask()` returns "y" or "n", None = the keyboard. `UserError` without a sound device, or a threshold.
    """
    settings = config.load(SessionSettings, source or "realtime", overrides=overrides)
    subject, audio = load_subject(identifier), settings.audio
    if above_db < 0 or not np.isfinite(above_db):
        raise UserError(f"--above {above_db:g}: dB above the threshold, 0 or more")
    card = session_cards(settings).session
    sounds, random = session_sounds(settings, card), np.random.default_rng()
    if simulated is None:
        if lacking := device_problem(audio):
            raise UserError(f"{lacking}; with --simulate DB nothing sounds")
        present = _listener(audio, sounds, random, _typed_answer if ask is None else ask)
    else:
        present = simulated_listener(simulated, random)
    measured = measure(present, card.item_names, audio.volume_db, audio.max_db, random)
    out = RESULTS / "realtime" / subject.id if folder is None else folder
    path = save(out, subject.id, audio, sounds, measured, above_db, simulated=simulated is not None)
    return path, load(path)


def _listener(
    audio: AudioSettings, sounds: Sequence[np.ndarray], random: np.random.Generator, ask: Callable[[], str]
) -> Present:
    """Return a `present` that plays through the session's device and asks."""
    count = 0

    def present(item: int, level: float | None) -> bool:
        nonlocal count
        count += 1
        logger.info("%d: listen ...", count)
        time.sleep(random.uniform(*_PAUSE_SECONDS))
        if level is None:
            time.sleep(len(sounds[item]) / audio.rate)
        else:
            play_now(audio, sounds[item], level)
        return ask() == "y"

    return present


def _typed_answer() -> str:
    """Return "y" or "n" as typed; `UserError` where standard input has ended."""
    while True:
        sys.stderr.write("heard? [y/n] ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise UserError("no answer: standard input has ended; calibrate at a terminal")
        word = line.strip().lower()[:1]
        if word in ("y", "n"):
            return word
