"""No path by which a cue is louder than the cap; silence when it is asked for."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sleep_interpreter.realtime.Cues.schedule import Cue
from sleep_interpreter.realtime.Output.mixer import Mixer
from sleep_interpreter.realtime.Output.sinks import FileSink, NullSink

_STEPS = st.one_of(
    st.tuples(st.just("cue"), st.integers(0, 2), st.floats(-80, 60)),
    st.tuples(st.just("volume"), st.floats(allow_nan=True, allow_infinity=True)),
    st.tuples(st.just("render"), st.integers(1, 400)),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("silence")),
)
_LOUD = np.array([np.ones(300), -np.ones(300), np.full(300, np.nan)], np.float32)
_LOUD[2, :100] = np.inf
_LOUD[0, 50:60] = 1e30


_SUM = [("cue", item, 60.0) for item in (0, 0, 0, 1)]
_VOLUMES = [(("volume", v), ("render", 3)) for v in (math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324)]


# the same examples on every machine, however slow; those at the edges are always among them
@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@example(0.0, 40.0, _SUM)
@example(-120.0, 40.0, [*_SUM, ("render", 20), ("volume", 1e308), ("render", 1)])
@example(-6.0, -20.0, [*_SUM, *(step for pair in _VOLUMES for step in pair)])
@example(-6.0, 0.0, [*_SUM, ("render", 20), ("silence",), ("cue", 2, 60.0), ("volume", 40.0), ("render", 200)])
@given(st.floats(-120, 0), st.floats(-120, 40), st.lists(_STEPS, min_size=1, max_size=30))
def test_no_frame_ever_exceeds_the_cap(cap, volume, steps):
    renderer = Mixer(_LOUD, volume, cap, 1000)
    limit = np.float32(10 ** (cap / 20)) * (1 + 1e-6)
    for kind, *values in [*steps, ("render", 300)]:
        if kind == "cue":
            renderer.schedule(values[0], renderer.position + 5, values[1])
        elif kind == "volume":
            renderer.set_volume(values[0])
            assert renderer.volume_db <= cap + 1e-9
        elif kind == "render":
            block = renderer.render(values[0])
            assert np.isfinite(block).all() and np.abs(block).max() <= limit
        else:
            getattr(renderer, kind)()


def test_silence_takes_ten_milliseconds_and_takes_back_what_waits():
    rate = 16000
    renderer = Mixer([np.ones(rate, np.float32)], -6, -6, rate)
    renderer.schedule(0, 0, number=1)
    renderer.schedule(0, rate, number=2)
    renderer.render(1000)
    assert renderer.silence() == [2]
    after = renderer.render(rate)
    sounding = np.flatnonzero(np.abs(after) > 0)
    assert 0 < len(sounding) <= 0.05 * rate
    assert np.abs(np.diff(after[: len(sounding)])).max() < 0.01  # no click
    assert not renderer.render(2 * rate).any()
    renderer.schedule(0, renderer.position, number=3)  # a later cue sounds again
    assert renderer.render(100).any()


def test_a_change_of_volume_is_gradual_and_kept():
    renderer = Mixer([np.ones(4000, np.float32)], -40, -6, 16000)
    renderer.schedule(0, 0)
    assert renderer.render(100)[-1] == pytest.approx(10 ** (-40 / 20))
    assert renderer.set_volume(-20) == pytest.approx(-20)
    block = renderer.render(1000)
    assert block[-1] == pytest.approx(0.1, rel=1e-4) and np.abs(np.diff(block)).max() < 0.002
    assert renderer.set_volume(3) == pytest.approx(-6)


def test_each_cue_has_its_own_gain():
    renderer = Mixer([np.ones(100, np.float32)] * 2, -20, -6, 16000)
    renderer.schedule(0, 0, gain_db=-6)
    assert renderer.render(50)[10] == pytest.approx(10 ** (-26 / 20), rel=1e-5)


def test_sinks_take_back_what_has_not_begun(tmp_path):
    file = FileSink(tmp_path / "cues.flac", Mixer([np.ones(1600, np.float32)], -20, -6, 16000), 16000)
    for sink in (file, NullSink(-20, -6)):
        for number, onset in ((1, 100), (2, 5000)):
            sink.schedule(Cue(number, 0, 0, onset))
        sink.advance(200)
        assert sink.cancel() == [2] and sink.cancel() == []
        assert sink.set_volume(100) == pytest.approx(-6)
        sink.close(6000)
    import soundfile

    data, rate = soundfile.read(tmp_path / "cues.flac")
    assert len(data) == 6000 / 500 * rate and not data[round(1 * rate) :].any()
