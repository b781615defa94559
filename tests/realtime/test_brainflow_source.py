"""A board of brainflow's: its synthetic one, which needs no hardware."""

import time

import mne
import numpy as np
import pytest

pytest.importorskip("brainflow", reason="the extra [boards] is not installed")

from sleep_interpreter.realtime.Parameters.source import RecordingSettings, SourceSettings
from sleep_interpreter.realtime.Sources.brainflow_source import BrainflowSource
from sleep_interpreter.utils.core.errors import UserError


def test_an_unknown_board_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"no board 'CYTONN'.*CYTON_BOARD"):
        BrainflowSource(SourceSettings(kind="brainflow", brainflow={"board": "CYTONN"}))


def test_the_synthetic_board_streams_and_is_recorded(tmp_path):
    source = BrainflowSource(SourceSettings(kind="brainflow", look_seconds=0.5))
    try:
        picks = source.names[:3]
        source.open(picks)
        assert source.rates == {250.0: tuple(picks)}
        assert source.preview().shape[0] == len(source.names)
        source.check_unit([0, 1, 2])
        source.record(tmp_path, RecordingSettings())
        taken, ending = [], time.perf_counter() + 2
        for chunk in source.chunks(lambda: time.perf_counter() > ending):
            taken.append(chunk)
            late = time.perf_counter() - source.time_of(sum(c.shape[1] for c in taken) / 500)
            assert late < 2
    finally:
        source.close()
    data = np.concatenate(taken, axis=1)
    assert data.dtype == np.float32 and 700 < data.shape[1] < 1100 and np.isfinite(data).mean() > 0.9
    raw = mne.io.read_raw(source.recorder.path, preload=True, verbose="error")
    assert raw.ch_names == source.names and raw.info["sfreq"] == 250
    assert source.fingerprint()["board"] == "SYNTHETIC_BOARD"
    # what the session got is what is on the disk, at twice the rate
    np.testing.assert_allclose(data[:, 200:600:2], raw.get_data()[:3, 100:300] * 1e6, rtol=0.02, atol=20)
