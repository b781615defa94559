"""A small lab's recordings, prepared once for all tests."""

import pytest
import recordings

from sleep_interpreter.data.preparation import inputs
from sleep_interpreter.data.preparation import run as prepare_run
from sleep_interpreter.data.preparation.settings import load_settings

PATTERN = r"recordings.pattern=(?P<subject>s\d)_(?P<session>wake|night)"
QUICK = (
    PATTERN,
    "split.test=[s1]",
    "steps.ica.method=none",
    "steps.bad_channels.method=none",
    "channels.montage=[Fp1, Fp2, F3, Fz, F4, T7, C3, Cz, C4, T8, P3, Pz, P4, O1, Oz, O2]",
)
"""16 channels: as much code, a quarter of the time."""


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """Return a folder of two subjects' recordings (55 channels): night as BrainVision, wake as FIF."""
    root = tmp_path_factory.mktemp("lab")
    for k in range(2):
        raw, _ = recordings.night(k, item_strength=10.0)
        recordings.write(raw, root / f"s{k}_night.vhdr")
        recordings.write(recordings.wake(k), root / f"s{k}_wake_raw.fif")
    return root


@pytest.fixture(scope="session")
def prepared(lab, tmp_path_factory):
    """Return (folder, manifest, settings) of the whole layout of 55 channels."""
    settings = load_settings(None, [PATTERN, "split.test=[s1]"])
    out = tmp_path_factory.mktemp("prepared") / "data"
    sources = inputs.find_recordings(str(lab / "s*"), settings)
    return out, prepare_run.prepare(sources, settings, out), settings
