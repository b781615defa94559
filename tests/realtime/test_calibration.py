"""The level of cues from a threshold of hearing: staircase, file, and what a session makes of it."""

import json

import numpy as np
import pytest
import yaml

from sleep_interpreter.realtime.Cues import loudness_calibration
from sleep_interpreter.realtime.Cues.sounds import session_sounds
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError

from .conftest import of

ITEMS = published().item_names


@pytest.mark.parametrize("threshold", [-63.0, -48.0, -31.0])
def test_the_staircase_finds_a_listener_s_threshold(threshold):
    found = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        present = loudness_calibration.simulated_listener(threshold, random)
        found.append(loudness_calibration.measure(present, ITEMS, -20, -6, random)[0])
    assert abs(np.median(found) - threshold) <= 6 and np.ptp(found) <= 20


def test_a_certain_listener_gets_the_next_level_above_the_threshold():
    random, levels = np.random.default_rng(0), []

    def present(item, level):
        levels.append(level)
        return level is not None and level >= -42

    threshold, trials = loudness_calibration.measure(present, ITEMS, -20, -6, random)
    assert threshold == -40 and [t["level_db"] for t in trials] == levels
    played = [level for level in levels if level is not None]
    assert played[:4] == [-20, -30, -40, -50] and max(played) <= -6 and None in levels


def test_answers_that_mean_nothing_are_refused():
    random = np.random.default_rng(1)
    with pytest.raises(UserError, match="nothing is heard at the cap"):
        loudness_calibration.measure(lambda item, level: False, ITEMS, -20, -6, random)
    heard = iter([True] * 4 + [False, True] * 100)
    with pytest.raises(UserError, match="silent trials were heard"):
        loudness_calibration.measure(
            lambda item, level: level is None or (next(heard) and level > -60), ITEMS, -20, -6, random, 0.5
        )
    with pytest.raises(UserError, match="do not settle"):
        loudness_calibration.measure(lambda item, level: level is not None and random.random() < 0.5, ITEMS, -20, -6,
                            Stubborn(), 0.9)  # fmt: skip


class Stubborn(np.random.Generator):
    """Draws catch trials nearly always."""

    def __init__(self):
        super().__init__(np.random.PCG64(2))


def test_no_sound_exceeds_the_cap(monkeypatch):
    levels = []
    monkeypatch.setattr(loudness_calibration, "play_now", lambda audio, sound, level: levels.append(level))
    monkeypatch.setattr(loudness_calibration, "_PAUSE_SECONDS", (0, 0))
    audio = config.load(SessionSettings, "realtime", overrides=["audio.max_db=-15"]).audio
    present = loudness_calibration._listener(audio, [np.zeros(16)] * 15, np.random.default_rng(0), lambda: "n")
    with pytest.raises(UserError, match="nothing is heard at the cap"):
        loudness_calibration.measure(present, ITEMS, -40, audio.max_db, np.random.default_rng(0))
    assert max(levels) == -15


@pytest.mark.slow
def test_a_session_takes_its_volume_from_the_file(call_script, session, recording, staged, tmp_path):
    code, error = call_script(
        "realtime/calibrate.py", "--subject", "s1", "--simulate", -50, "--above", 7, "--out", tmp_path
    )
    assert code == 0, error
    path = tmp_path / "calibration_001.yaml"
    content = yaml.safe_load(path.read_text())
    assert content["simulated"] is True and content["volume_db"] == content["threshold_db"] + 7
    assert abs(content["threshold_db"] + 50) <= 10
    result = session(recording, *staged, "--set", f"audio.calibration={json.dumps(str(path))}", "--stop", 5)
    assert any("dB above the threshold of" in e["detail"]["text"] for e in of(result, "notice"))
    settings = yaml.safe_load((result.folder / "settings.yaml").read_text())
    assert settings["audio"]["volume_db"] == content["volume_db"]
    # the next one does not take the place of the first
    assert call_script("realtime/calibrate.py", "--subject", "s1", "--simulate", -50, "--out", tmp_path)[0] == 0
    assert (tmp_path / "calibration_002.yaml").exists() and yaml.safe_load(path.read_text()) == content


def test_a_calibration_that_is_not_there_is_refused(main, recording, staged, tmp_path):
    with pytest.raises(UserError, match=r"audio\.calibration: none\.yaml: there is no such file"):
        main(["--recording", str(recording), "--out", str(tmp_path / "out"), "--subject", "s1", *staged,
              "--set", "audio.calibration=none.yaml"])  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        ({"subject": "s2"}, [], "is of subject 's2', this is 's1'"),
        ({"volume_db": -5.0, "max_db": -3.0}, [], "above the cap audio.max_db -6"),
        ({"device": "other"}, [], "measured with audio.device other"),
        ({"sounds": "0123"}, [], "measured with other sounds"),
        ({"volume_db": "loud"}, [], "volume_db"),
        ({}, ["--source", "lsl"], "simulated listener"),
    ],
)
def test_a_calibration_that_does_not_fit_is_refused(main, recording, staged, tmp_path, change, more, words):
    settings = config.load(SessionSettings, "realtime")
    path = loudness_calibration.save(
        tmp_path, "s1", settings.audio, session_sounds(settings, published()), (-50.0, []), 10.0, simulated=True
    )
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    source = more or ["--recording", str(recording)]
    with pytest.raises(UserError, match=words):
        main([*source, "--out", str(tmp_path / "out"), "--subject", "s1", *staged,
              "--set", f"audio.calibration={path}"])  # fmt: skip
    assert not (tmp_path / "out").exists()
