"""The endurance run, minutes long: what it demands holds, and it notices when something does not."""

import pytest

from benchmarks.realtime import endurance


@pytest.mark.slow
def test_some_minutes_of_a_night_hold(tmp_path):
    report = endurance.endure(tmp_path, hours=0.035)
    assert all(report["holds"].values()), report
    assert report["channels"] == 64 and report["samples"] == 60000 and report["cues"] > 3
    assert report["decodes"] + report["shams"] >= report["cues"]


def test_a_step_of_the_counter_is_noticed():
    import mne
    import numpy as np

    count = np.arange(70000) % 2**15
    info = mne.create_info(["COUNTER1"], 500.0, "misc")
    good = mne.io.RawArray(count[None] * 1e-6, info, verbose="error")
    assert endurance._counts(good)
    lost = np.delete(count, 40000)
    assert not endurance._counts(mne.io.RawArray(lost[None] * 1e-6, info, verbose="error"))
