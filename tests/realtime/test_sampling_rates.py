"""Recordings whose channels differ in sampling rate, as polysomnographies do, and ends that are missing."""

import numpy as np
import pytest
from scipy import signal

from sleep_interpreter.realtime.Parameters.source import SourceSettings
from sleep_interpreter.realtime.Sources.file_source import ReplaySource
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError

from .conftest import CUES, RATE, of, timeless
from .edf_writer import write_edf, write_gdf

EEG_MONTAGE = published().channels

_TONES = {"EEG C4": (256, 3.0), "EOG1": (128, 7.0), "EMG1": (200, 23.0)}
"""Rate and frequency of each channel's sine of 30 µV."""
_UNUSED = (("SpO2", 1, "%"), ("Temp", 4, "degC"), ("ECG", 512, "uV"))


def _sine(rate, frequency, seconds=40):
    return 30 * np.sin(2 * np.pi * frequency * np.arange(seconds * rate) / rate)


def _tones():
    return [(name, rate, _sine(rate, frequency), "uV") for name, (rate, frequency) in _TONES.items()]


def _unused():
    rng = np.random.default_rng(2)
    return [(name, rate, 90 + rng.standard_normal(40 * rate), unit) for name, rate, unit in _UNUSED]


def _replay(path, picks, **settings):
    source = ReplaySource(path, SourceSettings(**settings))
    source.open(picks)
    return source, np.concatenate(list(source.chunks()), axis=1)


@pytest.mark.parametrize("kind", ["edf", "bdf"])
def test_channels_of_several_rates_are_read_at_their_own(tmp_path, kind):
    unused = _unused()
    path = write_edf(tmp_path / f"psg.{kind}", [unused[0], *_tones(), *unused[1:]])
    alone = write_edf(tmp_path / f"alone.{kind}", _tones())
    picks = list(_TONES)
    source, found = _replay(path, picks)
    assert source.rates == {256.0: ("EEG C4",), 200.0: ("EMG1",), 128.0: ("EOG1",)}
    assert found.shape[0] == 3 and 39.8 * RATE < found.shape[1] <= 40 * RATE
    t = np.arange(found.shape[1]) / RATE
    for row, (_, frequency) in zip(found, _TONES.values(), strict=True):
        # sample k is time k / 500 in every channel: no shift between rates, and no seam anywhere
        np.testing.assert_allclose(row[500:], 30 * np.sin(2 * np.pi * frequency * t[500:]), atol=0.1)
    for read, chunk in ((0.37, 0.011), (7.3, None), (60, 60)):
        _, again = _replay(path, picks, read_seconds=read, chunk_seconds=chunk)
        np.testing.assert_array_equal(again, found)
    _, without = _replay(alone, picks)
    np.testing.assert_array_equal(without, found)


def test_a_late_beginning_is_the_same_instant_in_every_channel(tmp_path):
    path = write_edf(tmp_path / "psg.edf", _tones())
    source, found = _replay(path, list(_TONES), start=10.3, stop=30)
    assert source.begins == 10.25  # 256, 200 and 128 Hz meet every 1/8 s
    assert source.seconds == pytest.approx(19.75)
    assert any("begins at 10.25 s" in text for _, text in source.notices)
    t = source.begins + np.arange(found.shape[1]) / RATE
    for row, (_, frequency) in zip(found, _TONES.values(), strict=True):
        np.testing.assert_allclose(row[100:], 30 * np.sin(2 * np.pi * frequency * t[100:]), atol=0.1)


def test_two_channels_of_one_name_keep_their_rates(tmp_path):
    channels = [*_tones(), ("EMG1", 100, _sine(100, 5), "uV")]
    source, found = _replay(write_edf(tmp_path / "twins.edf", channels), ["EMG1-1", "EMG1-0"])
    assert source.rates == {200.0: ("EMG1-0",), 100.0: ("EMG1-1",)}
    t = np.arange(found.shape[1]) / RATE
    np.testing.assert_allclose(found[0, 500:], 30 * np.sin(2 * np.pi * 5 * t[500:]), atol=0.1)


@pytest.fixture(scope="module")
def mixed(signal_microvolts, tmp_path_factory):
    """The night of conftest as a polysomnography: EEG 256 Hz, EOG and EMG 200 Hz, SpO2 1 Hz, ECG 512 Hz."""
    rng = np.random.default_rng(4)
    names = [*EEG_MONTAGE, "M1", "EOG1", "EMG1"]
    rates = [256] * 56 + [200] * 2
    channels = [
        (name, rate, signal.resample_poly(line, rate, 500), "uV")
        for name, rate, line in zip(names, rates, signal_microvolts, strict=True)
    ]
    extra = [("SpO2", 1, 95 + rng.random(80), "%"), ("ECG", 512, rng.standard_normal(80 * 512) * 500, "uV")]
    cues = [(onset, f"cue/{item}") for onset, item in CUES]
    return write_edf(tmp_path_factory.mktemp("mixed") / "night.edf", [extra[0], *channels, extra[1]], cues=cues)


def test_the_log_of_a_polysomnography_does_not_depend_on_the_reads(session, mixed, flags):
    arguments = [*flags, "--cues", "recorded"]
    first = session(mixed, *arguments)
    other = session(mixed, *arguments, "--set", "source.read_seconds=1.7")
    assert timeless(other.folder) == timeless(first.folder)
    assert len(of(first, "decode")) > 5
    texts = [e["detail"]["text"] for e in of(first, "notice")]
    (eeg,) = [text for text in texts if "resampled from 256 to 500 Hz: nothing above 128 Hz" in text]
    assert eeg.startswith("C4, ")
    assert "EOG1, EMG1 resampled from 200 to 500 Hz: nothing above 100 Hz is in the signal" in texts
    assert not any("512" in text or "SpO2" in text for text in texts)
    assert [r["rate"] for r in first.about["recording"]["rates"]] == [256.0, 200.0]


@pytest.mark.slow
def test_a_used_channel_of_too_low_a_rate_is_named(main, tmp_path):
    channels = [*_tones()[:2], ("EMG1", 1, 20 + np.arange(40.0), "uV")]
    path = write_edf(tmp_path / "slow.edf", channels)
    arguments = ["--recording", str(path), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"slow\.edf: EMG1: sampling rate 1 Hz; .* channels\.emg=null"):
        main(arguments)
    assert not (tmp_path / "out").exists()
    assert main([*arguments, "--set", "channels.emg=null"]) == 0


def test_an_unsupported_rate_names_file_and_channels(main, tmp_path):
    channels = [(name, 333.3, _sine(1, 0.2, 13332), "uV") for name in _TONES]
    path = write_edf(tmp_path / "odd.edf", channels, record_seconds=10)
    with pytest.raises(UserError, match=r"odd\.edf: EEG C4, EOG1, EMG1: sampling rate 333\.3 Hz: no ratio"):
        main(["--recording", str(path), "--out", str(tmp_path)])


def test_gdf_is_read_where_the_used_channels_have_the_highest_rate(tmp_path):
    """MNE gives other channels than asked for when it opens some channels of a GDF alone."""
    tones = (("ECG", 64, 2), ("C4", 256, 3), ("EMG1", 128, 9))
    path = write_gdf(tmp_path / "night.gdf", [(name, rate, _sine(rate, f), "uV") for name, rate, f in tones])
    source, found = _replay(path, ["C4"])
    assert source.rates == {256.0: ("C4",)}
    t = np.arange(found.shape[1]) / RATE
    np.testing.assert_allclose(found[0, 500:], 30 * np.sin(2 * np.pi * 3 * t[500:]), atol=0.1)
    with pytest.raises(UserError, match=r"EMG1 at 128 Hz, but other channels have 256 Hz .* to EDF"):
        _replay(path, ["C4", "EMG1"])


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"keep": 33}, "the file breaks off: 7 s of the 40 s that its header announces are missing"),
        ({"announced": -1}, "its header does not say how long it is, 40 s were found"),
        ({"announced": 36}, "the file holds 4 s more than the 36 s that its header announces"),
        (
            {"kind": "EDF+D", "cues": [(1, "lights off")], "pause": (30, 9)},
            "the recording has 1 gap of 9 s in all, which count: 9 s at 30 s",
        ),
    ],
)
def test_what_is_wrong_with_a_files_length_is_a_warning(session, tmp_path, header, words, caplog):
    path = write_edf(tmp_path / "night.edf", _tones(), **header)
    with caplog.at_level("INFO"):
        result = session(path)
    notices = [e["detail"] for e in of(result, "notice")]
    (found,) = [n for n in notices if words in n["text"]]
    assert found["level"] == "warning"
    assert not any("does not match the file size" in n["text"] for n in notices)
    assert found["text"] in result.summary["warnings"]
    assert caplog.text.count(f"warning: {found['text']}") == 1  # the report on the screen says it too


@pytest.mark.parametrize("header", [{}, {"kind": "EDF+D", "cues": [(1, "lights off")]}])
def test_a_whole_file_warns_of_nothing(session, tmp_path, header):
    channels = [(name, 500, _sine(500, f), "uV") for name, (_, f) in _TONES.items()]
    assert session(write_edf(tmp_path / "night.edf", channels, **header)).summary["warnings"] == []


def test_a_pause_is_replayed_as_lost_samples_of_its_length(tmp_path):
    """What comes after it keeps its time, its signal and its cues."""
    cues = [(1, "x"), (45.5, "cue/alarm")]
    path = write_edf(tmp_path / "night.edf", _tones(), kind="EDF+D", cues=cues, pause=(30, 9))
    source, found = _replay(path, list(_TONES))
    assert source.seconds == 49 and [round(seconds, 3) for seconds, _ in source.cues()] == [45.5]
    t = np.arange(found.shape[1]) / RATE
    assert np.isnan(found[:, (t > 30.1) & (t < 38.9)]).all()
    for row, (_, frequency) in zip(found, _TONES.values(), strict=True):
        for begin, end, shift in ((1, 29.5, 0), (39.5, 48, 9)):
            inside = (t > begin) & (t < end)
            expected = 30 * np.sin(2 * np.pi * frequency * (t[inside] - shift))
            np.testing.assert_allclose(row[inside], expected, atol=0.1)


def test_a_high_rate_says_what_is_filtered_away(session, tmp_path):
    channels = [(name, 1000, _sine(1000, f), "uV") for name, (_, f) in _TONES.items()]
    result = session(write_edf(tmp_path / "night.edf", channels))
    texts = [e["detail"]["text"] for e in of(result, "notice")]
    assert "resampled from 1000 to 500 Hz: what lies above 250 Hz was filtered away before" in texts
