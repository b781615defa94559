"""A source of another package: one file and an entry point, and every part of a session knows it."""

import textwrap
import time

import mne
import numpy as np
import pytest

from sleep_interpreter.realtime.Sources.live_source import LiveSource
from sleep_interpreter.realtime.Utils.registries import SOURCES
from sleep_interpreter.utils.core.errors import UserError

from .conftest import of, read_session
from .live import Live

SOURCE = """
import numpy as np

from sleep_interpreter.realtime.Sources.source import Source
from sleep_interpreter.utils.core.config import Settings, validate


class NoiseSettings(Settings):
    seconds: float = 10.0


class NoiseSource(Source):
    where = "noise"

    def __init__(self, settings):
        self.names, self.notices = ["Fz", "C4", "EOG1", "EMG1"], []
        self.seconds = validate(NoiseSettings, settings.options or {}, "source.options").seconds

    def open(self, picks):
        self.rates, self._count = {500.0: tuple(picks)}, len(picks)

    def check_unit(self, rows, what="EEG", others_fit=False):
        return 20.0

    def chunks(self, stopped=lambda: False):
        rng = np.random.default_rng(0)
        for _ in range(round(self.seconds)):
            if stopped():
                return
            yield (20 * rng.standard_normal((self._count, 500))).astype(np.float32)
"""


@pytest.fixture
def noise(tmp_path, monkeypatch):
    """A package that brings a source, as `pip install` leaves it."""
    place = tmp_path / "site"
    about = place / "noise_source-1.0.dist-info"
    about.mkdir(parents=True)
    (place / "noise_source.py").write_text(textwrap.dedent(SOURCE), encoding="utf-8")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: noise-source\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[sleep_interpreter.sources]\nnoise = noise_source:NoiseSource\n")
    monkeypatch.syspath_prepend(place)


def test_a_session_of_a_source_of_another_package(noise, main, staged, tmp_path):
    words = ["--source", "noise", "--set", "source.options.seconds=36", "--out", str(tmp_path / "out")]
    assert main([*words, "--subject", "s1", *staged, "--check"]) in (0, 3)
    assert main([*words, "--subject", "s1", *staged]) == 0
    result = read_session(tmp_path / "out" / "s1" / "session_001")
    assert result.about["source"] == "noise" and result.about["recording"]["name"] == "noise"
    assert result.about["samples"] == 36 * 500 and result.summary["ending"] == "end of recording"
    assert of(result, "stage") and of(result, "cue")
    assert main([*words, "--subject", "s1", *staged, "--stop", "8"]) == 0
    assert read_session(tmp_path / "out" / "s1" / "session_002").about["samples"] == 8 * 500


def test_its_settings_and_flags_are_checked(noise, main, recording, tmp_path):
    words = ["--source", "noise", "--out", str(tmp_path / "out"), "--subject", "s1"]
    with pytest.raises(UserError, match=r"source\.options.*'second'; did you mean 'seconds'"):
        main([*words, "--set", "source.options.second=36"])
    with pytest.raises(UserError, match="--recording belongs to --source replay, not to noise"):
        main([*words, "--recording", str(recording)])
    with pytest.raises(UserError, match="noise: --cues recorded needs a recording"):
        main([*words, "--cues", "recorded"])
    assert not (tmp_path / "out").exists()


def test_what_is_not_registered_is_refused(main, recording, capsys):
    assert SOURCES.names()[:4] == ("replay", "lsl", "brainflow", "simulate") and "noise" not in SOURCES.names()
    with pytest.raises(UserError, match=r"source\.kind = 'replai': unknown source 'replai'; did you mean 'replay'"):
        main(["--recording", str(recording), "--set", "source.kind=replai"])
    with pytest.raises(SystemExit):
        main(["--source", "noise"])
    assert "invalid choice: 'noise'" in capsys.readouterr().err


class Amplifier(LiveSource):
    """The least that an amplifier needs."""

    def __init__(self, settings):
        self._began, self._sent = time.perf_counter(), 0
        super().__init__(settings, ["Fz", "C4", "EOG1", "EMG1"], 500.0, [1.0] * 4, "own amplifier")

    def pull(self):
        due = int((time.perf_counter() - self._began) * 500)
        numbers, self._sent = np.arange(self._sent, due), due
        data = 20 * np.random.default_rng(due).standard_normal((len(numbers), 4))
        return data, self._began + numbers / 500


def test_an_amplifier_of_another_package_is_recorded(main, staged, tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES._targets, "own", Amplifier)
    words = ["--source", "own", *staged, "--set", "workers=inline", "--set", "audio.sink=file"]
    live = Live(main, tmp_path, *words, "--set", "source.look_seconds=0.5")
    samples = live.folder / "recording" / "segment_001.eeg"
    live.until(lambda events: samples.exists() and samples.stat().st_size > 1000 * 16, 60, "samples")
    live.stop()
    raw = mne.io.read_raw(live.folder / "recording" / "segment_001.vhdr", verbose="error")
    assert live.code == 0 and raw.ch_names == ["Fz", "C4", "EOG1", "EMG1"] and raw.n_times > 1000
