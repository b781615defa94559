"""Recordings from anywhere: a header that claims anything is one sentence, at once, and no other file is opened."""

import os
import struct
import time
import zlib

import numpy as np
import pytest
import soundfile

from sleep_interpreter.data.preparation.inputs import find_bids, find_recordings
from sleep_interpreter.data.preparation.settings import Preparation
from sleep_interpreter.realtime.Cues.sounds import load_sounds, read_sound
from sleep_interpreter.realtime.Recording.session_recording import read_segment
from sleep_interpreter.utils.core.data_card import Item
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import atomic_write, refuse_link_loops
from sleep_interpreter.utils.signal.recording import Recording
from tests.realtime.edf_writer import write_edf, write_gdf

RATE = 100
CHANNELS = [(name, RATE, np.sin(np.arange(RATE * 10) + k) * 20, "uV") for k, name in enumerate(("C4", "Fz"))]


@pytest.fixture(autouse=True)
def bounds():
    start = time.process_time()
    yield
    assert time.process_time() - start < 5


def changed(path, place, field):
    content = bytearray(path.read_bytes())
    content[place : place + len(field)] = field
    path.write_bytes(content)
    return path


# --- EDF, BDF, GDF -------------------------------------------------------------------------------------

RECORDS, SECONDS, SIGNALS, HEADER, SAMPLES = (236, 8), (244, 8), (252, 4), (184, 8), (256 + 2 * 216, 8)


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        (SECONDS, "inf", "data record is 'inf' seconds long"),
        (SECONDS, "0", "data record is '0' seconds long.*write its length"),
        (SECONDS, "nan", "data record is 'nan' seconds long"),
        (SECONDS, "-1", "data record is '-1' seconds long"),
        (SECONDS, "", "data record is '' seconds long"),
        (SECONDS, "1e-300", "its header says .* Hz"),
        (SECONDS, "1e300", "its header says .* Hz"),
        (SIGNALS, "0", "number of signals is '0'"),
        (SIGNALS, "-1", "number of signals is '-1'"),
        (SIGNALS, "4000", "ends inside the header of its 4000 signals"),
        (SIGNALS, "many", "number of signals is 'many'"),
        (HEADER, "256", "length of the header in bytes is '256', not 768"),
        (RECORDS, "1e9", "number of data records is '1e9'"),
        (SAMPLES, "-100", "number of samples of 'C4' in a data record is '-100'"),
        (SAMPLES, "0", "number of samples of 'C4' in a data record is '0'"),
        (SAMPLES, "99999999", "number of samples of 'C4' in a data record is '99999999'"),
    ],
)
def test_a_header_of_edf_that_cannot_be_meant(tmp_path, suffix, field, value, told):
    path = write_edf(tmp_path / f"night{suffix}", CHANNELS)
    assert Recording(path).seconds == 10
    place, width = field
    with pytest.raises(UserError, match=rf"night\{suffix}: .*{told}"):
        Recording(changed(path, place, value.ljust(width).encode()))


@pytest.mark.parametrize("length", [0, 100, 256, 700])
@pytest.mark.parametrize("suffix", [".edf", ".gdf"])
def test_a_recording_that_ends_in_its_header(tmp_path, suffix, length):
    write = write_edf if suffix == ".edf" else write_gdf
    path = write(tmp_path / f"night{suffix}", CHANNELS)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=rf"night\{suffix}: (ends|damaged|MNE cannot)"):
        Recording(path)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (252, struct.pack("<H", 0), "number of channels is '0'"),
        (252, struct.pack("<H", 60_000), "number of channels is '60000'"),
        (244, struct.pack("<2I", 1, 0), "a data record is 1/0 seconds"),
        (244, struct.pack("<2I", 2**32 - 1, 1), "its header says"),
        (236, struct.pack("<q", 2**62), "number of data records"),
        (236, struct.pack("<q", -5), "number of data records is '-5'"),
        (256 + 2 * 216, struct.pack("<i", -100), "samples of a channel in a data record is '-100'"),
        (256 + 2 * 216, struct.pack("<i", 2**31 - 1), "samples of a channel in a data record"),
        (252, struct.pack("<I", 2**16 + 2), "number of channels is '65538', not 1 to 4096"),  # its upper half
        (252, b"\2\0-1", "number of channels is"),  # that of 23 GB
        (236, struct.pack("<q", -1), "number of data records is '-1'"),
        (236, struct.pack("<q", 11), "number of data records is '11', not 0 to 10"),
        (256 + 2 * 220, struct.pack("<i", 17), "kinds 16, 17 .GDF's codes., and one kind of 1, 2"),
        (256 + 2 * 220, struct.pack("<2i", 5, 6), "kinds 5, 6"),  # as wide as each other, and MNE takes the first
        (256 + 2 * 220, struct.pack("<2i", 0, 0), "kinds 0 "),
        (256 + 2 * 220, struct.pack("<2i", -1, -1), "kinds -1 "),
        (184, struct.pack("<q", 2**60), "length of the header in bytes"),
        (0, b"GDF 1e99", "begins with b'GDF 1e99'"),
        (0, b"GDF nan ", "begins with b'GDF nan '"),
        (0, b"BDF 1.25", "begins with b'BDF 1.25'"),
        (-4, struct.pack("<I", 2**32 - 1), "table of 4,294,967,295 events would have 25,769,803,770 bytes, and 0 are"),
        (-8, b"\3\0\0\0\1\0\0\0", "table of 1 events would have 12 bytes, and 0 are there"),
    ],
)
def test_a_header_of_gdf_that_cannot_be_meant(tmp_path, place, value, told):
    path = write_gdf(tmp_path / "night.gdf", CHANNELS)
    assert Recording(path).seconds == 10
    with pytest.raises(UserError, match=rf"night\.gdf: .*{told}"):
        Recording(changed(path, place % path.stat().st_size, value))


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (184, struct.pack("<H", 2), "length of the header in bytes is '512', not 768"),
        (252, struct.pack("<H", 5000), "number of channels is '5000'"),
        (-26, b"\1\xff\xff\xff", "table of 16,777,215 events"),
        (-26, b"\3\3\0\0", "table of 3 events would have 36 bytes, and 18 are there"),
    ],
)
def test_a_header_of_gdf_2_that_cannot_be_meant(tmp_path, place, value, told):
    marks = [(50, 769), (200, 770), (250, 769)]
    path = write_gdf(tmp_path / "night.gdf", CHANNELS, version="2.20", events=marks)
    recording = Recording(path)
    assert recording.seconds == 10 and recording.annotations.onset.tolist() == [0.5, 2.0, 2.5]
    np.testing.assert_allclose(recording.groups(["C4"])[0].read(0, 50)[0] * 1e6, CHANNELS[0][2][:50], atol=1e-4)
    with pytest.raises(UserError, match=rf"night\.gdf: .*{told}"):
        Recording(changed(path, place % path.stat().st_size, value))


def test_samples_that_are_not_there_when_they_are_wanted(tmp_path):
    """A file that became shorter after its header was read, as on a share that others write to."""
    path = write_edf(tmp_path / "night.edf", CHANNELS)
    recording = Recording(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"night\.edf: MNE cannot read samples 0 to 900 of this recording"):
        recording.groups(["C4"])[0].read(0, 900)


@pytest.mark.skipif(not hasattr(os, "SEEK_HOLE"), reason="the system does not tell of holes")
@pytest.mark.parametrize("suffix", [".edf", ".eeg"])
def test_a_recording_that_was_never_written(tmp_path, suffix):
    """20 GB in name: a download that broke off."""
    path = write_edf(tmp_path / "night.edf", CHANNELS, announced=-1) if suffix == ".edf" else vhdr(tmp_path)
    with path.with_suffix(suffix).open("r+b") as handle:
        handle.truncate(20 * 10**9)
    with pytest.raises(UserError, match=rf"night\{suffix}: of its 20,000,000,000 bytes .* were never written"):
        Recording(path)


# --- BrainVision ---------------------------------------------------------------------------------------

_VHDR = """Brain Vision Data Exchange Header File Version 1.0
[Common Infos]
Codepage=UTF-8
DataFile=night.eeg
MarkerFile=night.vmrk
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels=2
SamplingInterval=10000
[Binary Infos]
BinaryFormat=INT_16
[Channel Infos]
Ch1=C4,,0.1,µV
Ch2=Fz,,0.1,µV
"""
_VMRK = """Brain Vision Data Exchange Marker File, Version 1.0
[Common Infos]
Codepage=UTF-8
DataFile=night.eeg
[Marker Infos]
Mk1=New Segment,,1,1,0,20240101220000000000
Mk2=Comment,Tür,100,1,0
"""


def vhdr(folder, change=("", ""), coding="utf-8"):
    folder.mkdir(exist_ok=True)
    (folder / "night.eeg").write_bytes(np.zeros(2 * RATE * 10, "<i2").tobytes())
    (folder / "night.vmrk").write_text(_VMRK, encoding=coding)
    (folder / "night.vhdr").write_text(_VHDR.replace(*change) if change[0] else _VHDR, encoding="utf-8")
    return folder / "night.vhdr"


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        (f"Mk3=New Segment,LostSamples: {'9' * 400},500,1,0", "with its gaps, by the times inside it, it is inf days"),
        ("Mk3=New Segment,LostSamples: 99999999999,500,1,0", "it is 11,574 days long; correct"),
        ("Mk3=New Segment,,500,1,0,20280101220000000000", "it is 1,461 days long"),
        ("Mk3=New Segment,,\u00b2,1,0", None),  # a digit to Python, and no number
        (f"Mk3=New Segment,,{'9' * 5000},1,0", None),
        ("Mk3=New Segment,LostSamples: 5,500,1,0\nMk4=New Segment,,500,1,0", None),  # one gap of two lengths
    ],
)
def test_gaps_that_cannot_be(tmp_path, marker, told):
    path = vhdr(tmp_path)
    path.with_suffix(".vmrk").write_text(_VMRK + marker + "\n", encoding="utf-8")
    if told is None:
        try:
            assert Recording(path).seconds < 11
        except UserError as error:  # MNE's word on a number
            assert "MNE cannot read this recording" in str(error)
        return
    with pytest.raises(UserError, match=rf"night\.vhdr: .*{told}"):
        Recording(path)


def test_gaps_of_edf_that_cannot_be(tmp_path):
    path = write_edf(tmp_path / "night.edf", CHANNELS, cues=[(1.0, "cue")], kind="EDF+D", pause=(5, 40_000_000))
    with pytest.raises(UserError, match=r"night\.edf: with its gaps, by the times inside it, it is 463 days long"):
        Recording(path)


def test_the_header_of_these_tests_is_read(tmp_path):
    recording = Recording(vhdr(tmp_path))
    assert recording.seconds == 10 and "Comment/Tür" in recording.annotations.description


@pytest.mark.parametrize("key", ["DataFile=night.eeg", "MarkerFile=night.vmrk"])
@pytest.mark.parametrize(
    "name", ["../other/night.eeg", "/etc/passwd", "..\\..\\night.eeg", "C:\\night.eeg", "a/../../b"]
)
def test_files_outside_the_folder_are_not_opened(tmp_path, key, name):
    vhdr(tmp_path / "other")
    path = vhdr(tmp_path / "lab", (key, f"{key.split('=')[0]}={name}"))
    for opened in (Recording, read_segment):
        with pytest.raises(UserError, match=r"night\.vhdr: .*outside the folder.*put all files"):
            opened(path)


@pytest.mark.parametrize("key", ["DataFile=night.eeg", "MarkerFile=night.vmrk"])
def test_a_folder_or_a_pipe_in_place_of_a_file(tmp_path, key):
    path = vhdr(tmp_path, (key, f"{key.split('=')[0]}=inside"))
    (tmp_path / "inside").mkdir()
    with pytest.raises(UserError, match=r"night\.vhdr: .*=inside names a folder; write the file's name"):
        Recording(path)
    (tmp_path / "inside").rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "inside")
        with pytest.raises(UserError, match=r"night\.vhdr: .*=inside names no file"):
            Recording(path)
        with pytest.raises(UserError, match="is no file, so no recording"):
            Recording(tmp_path / "inside")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("NumberOfChannels=2", "NumberOfChannels=1000000000"), "NumberOfChannels is '1000000000'"),
        (("NumberOfChannels=2", "NumberOfChannels=-2"), "NumberOfChannels is '-2'"),
        (("SamplingInterval=10000", "SamplingInterval=0"), "MNE cannot read|Hz"),
        (("SamplingInterval=10000", "SamplingInterval=nan"), "MNE cannot read|nan Hz"),
        (("SamplingInterval=10000", "SamplingInterval=inf"), "MNE cannot read|0 Hz"),
        (("SamplingInterval=10000", "SamplingInterval=-1"), "MNE cannot read|Hz"),
        (("DataFile=night.eeg", "DataFile=gone.eeg"), "MNE cannot read"),
        (("DataFile=night.eeg", "DataFile=a\x01b"), "is no file's name"),
    ],
)
def test_a_header_of_brainvision_that_cannot_be_meant(tmp_path, change, told):
    with pytest.raises(UserError, match=rf"night\.vhdr: .*({told})"):
        Recording(vhdr(tmp_path, change))


def test_markers_that_are_no_utf8_are_named_with_their_line(tmp_path):
    with pytest.raises(UserError, match=r"night\.vmrk, line 7: is no UTF-8 text .*Tür.*save the file as UTF-8"):
        Recording(vhdr(tmp_path, coding="latin-1"))


def test_a_recording_behind_a_link_is_read(tmp_path):
    """DataLad and git-annex keep the data behind links."""
    path = vhdr(tmp_path / "annex")
    (tmp_path / "lab").mkdir()
    for suffix in (".vhdr", ".eeg", ".vmrk"):
        (tmp_path / "lab" / f"night{suffix}").symlink_to(path.with_suffix(suffix))
    (tmp_path / "night.edf").symlink_to(write_edf(tmp_path / "annex" / "night.edf", CHANNELS))
    assert Recording(tmp_path / "lab" / "night.vhdr").seconds == Recording(tmp_path / "night.edf").seconds == 10


# --- EEGLAB --------------------------------------------------------------------------------------------


def test_an_eeglab_file_that_unpacks_to_far_more(tmp_path):
    packed = zlib.compress(struct.pack("<2I", 14, 3_900_000_000) + bytes(10**6))
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01IM"
    (tmp_path / "night.set").write_bytes(head + struct.pack("<2I", 15, len(packed)) + packed)
    with pytest.raises(UserError, match=r"night\.set: its .* bytes claim to be 3,900,000,000"):
        Recording(tmp_path / "night.set")


def test_an_eeglab_file_of_samples_elsewhere(tmp_path):
    from scipy.io import savemat

    (tmp_path / "lab").mkdir()
    np.zeros(200, "<f4").tofile(tmp_path / "other.fdt")
    channels = np.array([(name, "EEG") for name in ("C4", "Fz")], [("labels", object), ("type", object)])
    content = {"nbchan": 2, "srate": 100.0, "trials": 1, "pnts": 100, "data": "../other.fdt", "chanlocs": channels,
               "event": [], "xmin": 0.0, "xmax": 0.99, "epoch": [], "icaweights": [], "icawinv": []}  # fmt: skip
    savemat(tmp_path / "lab" / "night.set", {"EEG": content}, appendmat=False)
    with pytest.raises(UserError, match=r"night\.set: samples .*outside the folder"):
        Recording(tmp_path / "lab" / "night.set")


# --- sounds --------------------------------------------------------------------------------------------


def test_a_sound_is_decoded_only_where_its_length_fits(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "long.flac", np.zeros(16000 * 600), 16000)
    monkeypatch.setattr(soundfile, "read", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"long\.flac: 600\.000 s long; audio\.max_seconds permits 2 s"):
        read_sound(tmp_path / "long.flac", 16000, 2.0, 0.0)
    with pytest.raises(UserError, match=r"long\.flac: 600\.000 s long, expected 0\.5 s"):
        load_sounds(tmp_path, 16000, [Item(name="kiwi", sound="long.flac")])
    with pytest.raises(UserError, match=r"long\.flac: 16000 Hz, expected 22050"):
        load_sounds(tmp_path, 22050, [Item(name="kiwi", sound="long.flac")])


@pytest.mark.parametrize(
    ("place", "value"), [(24, 0), (24, 1), (24, 2**31 - 1), (22, 0xFFFF), (4, 2**32 - 1), (40, 2**31)]
)
def test_a_sound_whose_header_cannot_be_meant(tmp_path, place, value):
    soundfile.write(tmp_path / "kiwi.wav", np.zeros(8000), 16000, subtype="PCM_16")
    width = "<H" if value == 0xFFFF else "<I"
    changed(tmp_path / "kiwi.wav", place, struct.pack(width, value))
    try:
        assert len(read_sound(tmp_path / "kiwi.wav", 16000, 2.0, 0.0)) == 8000
    except UserError as error:
        assert "kiwi.wav" in str(error)


# --- folders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("links", [1, 2, 6])
def test_links_that_lead_round_in_a_circle(tmp_path, links):
    path = vhdr(tmp_path / "sub-01")
    path.rename(path.with_name("sub-01_task-sleep_eeg.vhdr"))
    for number in range(links):
        (tmp_path / "sub-01" / f"again{number}").symlink_to("..")
    for search in (find_bids, lambda root, settings: find_recordings(f"{root}/**/*.vhdr", settings)):
        with pytest.raises(UserError, match=r"again\d: a link that leads back .*remove the link"):
            search(tmp_path, Preparation())


def test_links_that_do_not(tmp_path):
    """A link beside, one to itself, two that lead to each other, and folders that double at every level."""
    inner = tmp_path / "root" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "root" / "beside").symlink_to(inner)
    refuse_link_loops(tmp_path / "root")
    (inner / "self").symlink_to("self")
    refuse_link_loops(tmp_path / "root")  # it leads nowhere
    (inner / "a").mkdir()
    (inner / "b").mkdir()
    (inner / "a" / "to_b").symlink_to(inner / "b")
    (inner / "b" / "to_a").symlink_to(inner / "a")
    with pytest.raises(UserError, match="leads back"):
        refuse_link_loops(tmp_path / "root")
    deep = tmp_path / "deep"
    for level in range(40):
        (deep / str(level)).mkdir(parents=True)
        for side in ("left", "right"):
            (deep / str(level) / side).symlink_to(deep / str(level + 1))
    with pytest.raises(UserError, match="leads to more than 10,000 folders"):
        refuse_link_loops(deep / "0")


def test_a_temporary_file_is_nobody_elses(tmp_path, monkeypatch):
    """Its name cannot be known before, and what has that name is not written to."""
    names = set()
    for _ in range(3):
        with atomic_write(tmp_path / "a.txt") as temporary:
            names.add(temporary.name)
            assert temporary.read_bytes() == b""
    assert len(names) == 3
    monkeypatch.setattr("secrets.token_hex", lambda _: "known")
    (tmp_path / ".a.txt.known.tmp.txt").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "a.txt"):
        pytest.fail("written")
    assert not (tmp_path / "victim").exists()
