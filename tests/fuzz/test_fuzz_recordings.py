"""Recordings, their markers, and sounds that anybody may have made."""

import numpy as np
import pytest
import soundfile
from hypothesis import strategies as st

from sleep_interpreter.realtime.Cues.sounds import read_sound
from sleep_interpreter.realtime.Recording.session_recording import read_segment
from sleep_interpreter.utils.core.provenance import is_simulated
from sleep_interpreter.utils.signal.recording import Recording
from tests.fuzz.engine import changed, changed_text, fuzz, refused
from tests.realtime.edf_writer import write_edf, write_gdf

pytestmark = pytest.mark.slow

_CHANNELS = [(name, 100, np.sin(np.arange(400) + k) * 20, "uV") for k, name in enumerate(("C4", "Fz"))]
_SLOW = [*_CHANNELS, ("Temp", 1, np.arange(4.0), "C")]
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
BinaryFormat=IEEE_FLOAT_32
[Channel Infos]
Ch1=C4,,0.1,µV
Ch2=Fz,M1,0.1,µV
[Coordinates]
Ch1=1,30,45
Ch2=1,-30,45
[Comment]
Impedance [kOhm] at 12:00:00 :
C4:          5
""".encode()
_VMRK = """Brain Vision Data Exchange Marker File, Version 1.0
[Common Infos]
Codepage=UTF-8
DataFile=night.eeg
[Marker Infos]
Mk1=New Segment,,1,1,0,20240101220000000000
Mk2=Comment,cue/Tür,100,1,0
Mk3=Stimulus,S  1,120,1,0
Mk4=lost,gap,200,50,0
Mk5=Comment,sample 1000,1,1,0
Mk6=Comment,simulated,1,1,0
Mk7=New Segment,,300,1,0,20240101220010000000
Mk8=New Segment,LostSamples: 12,350,1,0
""".encode()


def read_all(path):
    """Read a recording as a replay and a preparation do: what it says, and its first second."""
    is_simulated(path)
    recording = Recording(path)
    refused(recording.triggers)
    for group in recording.groups(recording.names):
        group.read(0, min(group.length, 100))


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_edf(tmp_path, suffix):
    path = tmp_path / f"night{suffix}"
    marks = [(1.5, "cue/kiwi"), (2, "Sleep stage W")] if suffix == ".edf" else ()
    sound = [write_edf(path, channels, cues=marks).read_bytes() for channels in (_CHANNELS, _SLOW)]

    def attempt(content):
        path.write_bytes(content)
        read_all(path)

    header = changed([whole[:1300] for whole in sound]).map(lambda begin: begin + sound[0][1300:])
    fuzz(attempt, st.one_of(changed(sound), header), 500)


def test_gdf(tmp_path):
    path = tmp_path / "night.gdf"
    sound = write_gdf(path, _CHANNELS).read_bytes()

    def attempt(content):
        path.write_bytes(content)
        read_all(path)

    fuzz(attempt, st.one_of(changed([sound]), changed([sound[:768]]).map(lambda begin: begin + sound[768:])), 400)


def test_brainvision(tmp_path):
    path = tmp_path / "night.vhdr"
    (tmp_path / "night.eeg").write_bytes(np.zeros((400, 2), "<f4").tobytes())

    def attempt(contents):
        header, markers = contents
        path.write_bytes(header)
        path.with_suffix(".vmrk").write_bytes(markers)
        refused(read_all, path)
        read_segment(path)

    sound = st.just(_VHDR), st.just(_VMRK)
    strange = changed_text([_VHDR]), changed_text([_VMRK])
    pairs = [st.tuples(strange[0], sound[1]), st.tuples(sound[0], strange[1]), st.tuples(*strange)]
    fuzz(attempt, st.one_of(pairs), 700)


def test_sounds(tmp_path):
    sounds = []
    for suffix in ("wav", "flac", "ogg"):
        soundfile.write(tmp_path / f"kiwi.{suffix}", np.sin(np.arange(800) / 5), 16000)
        sounds.append((tmp_path / f"kiwi.{suffix}").read_bytes())
    path = tmp_path / "sound"

    def attempt(content):
        path.write_bytes(content)
        read_sound(path, 16000, 2.0, 0.01)

    fuzz(attempt, changed(sounds), 600)
