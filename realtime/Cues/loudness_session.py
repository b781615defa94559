"""Calibrate with a listener at the keyboard (realtime/calibrate.py)."""

import logging
import sys
import time

import numpy as np

from sleep_interpreter.realtime.Cues import loudness_calibration
from sleep_interpreter.realtime.Cues.playlist import sounds_of
from sleep_interpreter.realtime.Output.sound_card import device_problem, play_now
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Subject import load_subject
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import RESULTS

logger = logging.getLogger(__name__)

_WAIT = (0.8, 2.0)
"""Seconds between the announcement and the sound: uniform, so that it cannot be guessed."""


def calibrate(identifier, source=None, overrides=(), above_db=10.0, simulated=None, folder=None, ask=None):
    """Measure a subject's threshold and write the calibration.

    Parameters
    ----------
    identifier : str
        The subject's id.
    source : str | None
        Settings file; None = params/realtime.yaml.
    overrides : sequence of str
    above_db : float
        The session's level above the threshold, dB.
    simulated : float | None
        Threshold of a simulated listener, dB; nothing sounds.
    folder : Path | None
        None = results/realtime/ID.
    ask : callable | None
        `ask()` returns "y" or "n"; None = the keyboard.

    Returns
    -------
    path : Path
    found : sleep_interpreter.realtime.Cues.loudness_calibration.Calibration

    Raises
    ------
    UserError
        There is no sound device, or no threshold.
    """
    settings = config.load(SessionSettings, source or "realtime", overrides=overrides)
    subject, audio = load_subject(identifier), settings.audio
    if above_db < 0 or not np.isfinite(above_db):
        raise UserError(f"--above {above_db:g}: dB above the threshold, 0 or more")
    sounds, random = sounds_of(settings), np.random.default_rng()
    if simulated is None:
        if lacking := device_problem(audio):
            raise UserError(f"{lacking}; with --simulate DB nothing sounds")
        present = _listener(audio, sounds, random, _keyboard if ask is None else ask)
    else:
        present = loudness_calibration.simulated_listener(simulated, random)
    measured = loudness_calibration.measure(present, audio.volume_db, audio.max_db, random)
    out = RESULTS / "realtime" / subject.id if folder is None else folder
    path = loudness_calibration.save(
        out, subject.id, audio, sounds, measured, above_db, simulated=simulated is not None
    )
    return path, loudness_calibration.load(path)


def _listener(audio, sounds, random, ask):
    """Return a `present` that plays through the session's device and asks."""
    count = 0

    def present(item, level):
        nonlocal count
        count += 1
        logger.info("%d: listen ...", count)
        time.sleep(random.uniform(*_WAIT))
        if level is None:
            time.sleep(len(sounds[item]) / audio.rate)
        else:
            play_now(audio, sounds[item], level)
        return ask() == "y"

    return present


def _keyboard():
    """Return "y" or "n" as typed.

    Raises
    ------
    UserError
        Nobody can answer: standard input is no terminal or has ended.
    """
    while True:
        sys.stderr.write("heard? [y/n] ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise UserError("no answer: standard input has ended; calibrate at a terminal")
        word = line.strip().lower()[:1]
        if word in ("y", "n"):
            return word
