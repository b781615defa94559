"""The BrainVision writer: what MNE reads back, at any moment, and what is refused."""

import datetime
import os
import signal
import subprocess
import sys

import mne
import numpy as np
import pytest

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import ROOT
from sleep_interpreter.utils.core.provenance import is_simulated
from sleep_interpreter.utils.signal.brainvision_writer import SUFFIXES, BrainVisionWriter

START = datetime.datetime(2000, 1, 1, 22, 0, 0, 250_000, tzinfo=datetime.UTC)
NAMES = ("C3", "C4", "EOG, left", "EMG1")


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).normal(0, 40, (4, 2000)).astype(np.float32)


def _read(path):
    return mne.io.read_raw_brainvision(path, preload=True, verbose="error")


def _microvolts(raw):
    return raw.get_data() * 1e6


@pytest.mark.parametrize(("resolution", "error"), [(None, 1e-4), (0.1, 0.0501), (0.5, 0.2501)])
@pytest.mark.parametrize("chunk", [1, 333, 2000])
def test_samples_names_and_rate_come_back(tmp_path, data, resolution, error, chunk):
    path = tmp_path / "night.vhdr"
    with BrainVisionWriter(path, NAMES, 512.0, resolution=resolution, start=START) as writer:
        for start in range(0, 2000, chunk):
            writer.append(data[:, start : start + chunk])
    raw = _read(path)
    assert tuple(raw.ch_names) == NAMES  # a comma in a name survives
    assert raw.info["sfreq"] == pytest.approx(512)
    assert raw.info["meas_date"] == START
    assert np.abs(_microvolts(raw) - data).max() < error
    assert {file.name for file in tmp_path.iterdir()} == {f"night{suffix}" for suffix in SUFFIXES}
    assert path.with_suffix(".eeg").stat().st_size == 4 * 2000 * (4 if resolution is None else 2)


def test_same_samples_same_bytes_whatever_the_chunks(tmp_path, data):
    for name, chunk in (("a", 7), ("b", 500)):
        with BrainVisionWriter(tmp_path / name / "x.vhdr", NAMES, 500, resolution=0.1) as writer:
            for start in range(0, 2000, chunk):
                writer.append(data[:, start : start + chunk])
    for suffix in SUFFIXES:
        assert (tmp_path / f"a/x{suffix}").read_bytes() == (tmp_path / f"b/x{suffix}").read_bytes()


def test_markers_come_back_with_onset_duration_and_any_text(tmp_path, data):
    path = tmp_path / "night.vhdr"
    with BrainVisionWriter(path, NAMES, 500.0, start=START) as writer:
        writer.marker(0, "simulated")
        writer.marker(1500, "stage/N2", 250)  # ahead of the samples
        writer.append(data)
        writer.marker(10, "a, b\nc")
        writer.marker(11, "S  1", kind="Stimulus")
    found = [(a["onset"], a["duration"], a["description"]) for a in _read(path).annotations]
    assert [text for *_, text in found] == [
        "Comment/simulated", "Comment/a, b c", "Stimulus/S 1", "Comment/stage/N2",
    ]  # fmt: skip
    assert [round(onset * 500) for onset, *_ in found] == [0, 10, 11, 1500]
    assert found[-1][1] == pytest.approx(0.5)
    assert is_simulated(path)


def test_values_beyond_16_bits_are_clipped_and_counted(tmp_path, caplog):
    path = tmp_path / "x.vhdr"
    with BrainVisionWriter(path, ("C3",), 500, resolution=0.1) as writer:
        writer.append(np.array([[0.0, 4000.0, -4000.0, 3276.7]]))
        assert writer.clipped == 2
    assert _microvolts(_read(path))[0] == pytest.approx([0, 3276.7, -3276.8, 3276.7], abs=1e-3)
    assert "2 values are beyond 16 bits" in caplog.text


def test_nothing_is_there_before_the_end_or_after_an_error(tmp_path, data):
    path = tmp_path / "new" / "x.vhdr"
    with pytest.raises(RuntimeError, match="stop"), BrainVisionWriter(path, NAMES, 500) as writer:
        writer.append(data)
        writer.flush()
        assert not any(path.with_suffix(suffix).exists() for suffix in SUFFIXES)
        raise RuntimeError("stop")
    assert list(path.parent.iterdir()) == []


def test_an_old_recording_stays_until_the_new_one_is_complete(tmp_path, data):
    path = tmp_path / "x.vhdr"
    for part in (data[:, :100], data):
        with BrainVisionWriter(path, NAMES, 500) as writer:
            writer.append(part)
            if path.exists():
                assert _read(path).n_times == 100
    assert _read(path).n_times == 2000


def test_a_live_recording_can_be_read_after_every_flush(tmp_path, data):
    path = tmp_path / "live.vhdr"
    with BrainVisionWriter(path, NAMES, 500, resolution=0.1, live=True) as writer:
        for stop in (500, 1000, 1500):
            writer.append(data[:, stop - 500 : stop])
            writer.marker(stop - 1, f"at/{stop}")
            writer.flush()
            raw = _read(path)
            assert raw.n_times == writer.n_samples
            assert raw.annotations.description[-1] == f"Comment/at/{stop}"
    with pytest.raises(UserError, match=r"live\.eeg: exists already; a recording is never replaced"):
        BrainVisionWriter(path, NAMES, 500, live=True)
    assert _read(path).n_times == 1500


KILLED = """
import sys
import numpy as np
from sleep_interpreter.utils.signal.brainvision_writer import BrainVisionWriter
writer = BrainVisionWriter(sys.argv[1], ("C3", "C4"), 500, live=True)
writer.append(np.ones((2, 700)))
writer.marker(300, "cue/apple")
writer.flush()
print("flushed", flush=True)
while True:
    writer.append(np.ones((2, 50)))
"""


def test_a_live_recording_survives_kill_9(tmp_path):
    path = tmp_path / "live.vhdr"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "flushed\n"
        os.kill(process.pid, signal.SIGKILL)
    raw = _read(path)
    assert raw.n_times >= 700
    assert _microvolts(raw) == pytest.approx(1)
    assert "Comment/cue/apple" in raw.annotations.description


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ()}, "at least one channel"),
        ({"names": ("C3", "C4", "C3")}, "two channels are called 'C3'"),
        ({"rate": 0}, "sampling rate 0.0 Hz; it must be above 0"),
        ({"rate": float("nan")}, "must be above 0"),
        ({"resolution": 0.0}, r"resolution 0.0; it must be above 0"),
        ({"path": "night.edf"}, r"ends in \.vhdr"),
    ],
)
def test_refusals(tmp_path, changes, message):
    arguments = {"path": "x.vhdr", "names": NAMES, "rate": 500, "resolution": None} | changes
    with pytest.raises(UserError, match=message):
        BrainVisionWriter(
            tmp_path / arguments["path"], arguments["names"], arguments["rate"], resolution=arguments["resolution"]
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [np.zeros((3, 10)), np.zeros(4), np.full((4, 2), np.nan)])
def test_samples_that_do_not_fit_are_refused(tmp_path, bad):
    with BrainVisionWriter(tmp_path / "x.vhdr", NAMES, 500) as writer:
        with pytest.raises(ValueError, match=r"expected \(4, n\)|finite"):
            writer.append(bad)
        with pytest.raises(ValueError, match="count from 0"):
            writer.marker(-1, "early")
        assert writer.n_samples == 0
        writer.append(np.zeros((4, 5)))
