"""The way of a test script from its command line to the first probabilities stays short enough to be read.

Counted are distinct functions that are called, not those of modules that are being imported.
"""

import os
import pickle
import runpy
import sys
import threading
from pathlib import Path

import numpy as np
from evaluation_data import tiny_checkpoint, trials

import sleep_interpreter.train.commands.test  # noqa: F401  # what is counted does not depend on who imported it
from sleep_interpreter.model.networks.ensemble import Ensemble
from sleep_interpreter.utils.core import yaml_reader

ROOT = Path(__file__).resolve().parents[2]
NETWORK = ("blocks.py", "layers.py", "kernels.py", "decoder.py", "losses.py", "multi_device.py", "settings.py")
"""Of model/networks/: what the network itself is, whoever calls it."""
TRIALS = (
    "utils/core/data_card.py", "utils/core/file_hashes.py", "utils/core/safe_pickle.py", "utils/core/npz.py", "data/",
    "utils/signal/", "tests/", ".venv/",
)  # fmt: skip
"""Reading of trials, and which data they are of."""
GROUND = ("utils/core/",)
"""Reading of settings and of command lines."""
MATCHING = (
    "Ensemble.card", "NetworkSettings.sizes_of", "follow_card", "_follow_card", "sizes_of", "sizes_read",
)  # fmt: skip
"""With train/evaluation/matching.py: does the data's card fit the network's?"""
CHECKS = (
    "Archive.__init__", "Archive.read", "_inside", "check_header", "opened", "member_shapes", "_shapes",
    "refuse_misfit", "refuse_other", "refuse_other_shapes", "files_of",
)  # fmt: skip
"""Is a file from somebody else what it says, before anything of it is unpacked?"""
RESTORING_AND_PREDICTING = ("model/", "utils/model.py", "train/evaluation/")


def functions_until_prediction(main, arguments):
    """Return (file, name) of our functions that are called before `predict_proba` first returns."""
    called, over, start = set(), False, f"{ROOT}{os.sep}"

    def look(frame, event, _):
        nonlocal over
        code = frame.f_code
        if not code.co_filename.startswith(start) or over:
            return
        if event == "call" and code.co_flags & 2 and not code.co_name.startswith("<"):  # no class bodies
            called.add((code.co_filename.removeprefix(start).replace(os.sep, "/"), code.co_qualname))
        elif event == "return" and code is Ensemble.predict_proba.__code__:
            over = True
            sys.setprofile(before)

    before = sys.getprofile()
    threading.setprofile(look)
    sys.setprofile(look)
    try:
        main(arguments)
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
    assert over
    return called


def test_from_the_command_line_to_the_first_probabilities(tmp_path):
    """Recognising a released file is not on the way of a checkpoint of this project."""
    file = tmp_path / "SI Main Test" / "subject_test_1" / "N2N3_data.pickle"
    file.parent.mkdir(parents=True)
    file.write_bytes(pickle.dumps(trials(15, np.random.default_rng(0))))
    arguments = ["--checkpoint", str(tiny_checkpoint(tmp_path / "a.npz")), "--data", str(tmp_path)]
    options = ["--set", "evaluate.bootstrap=100", "--set", "evaluate.permutations=100"]
    main = runpy.run_path(str(ROOT / "test" / "N23SIMD.py"))["main"]
    yaml_reader._load.cache_clear()  # read what a process of its own would read
    called = functions_until_prediction(main, ["--quick", *arguments, *options, "--results", str(tmp_path)])
    whole = {
        (path, name) for path, name in called
        if not path.startswith(TRIALS) and path.rsplit("/", 1)[-1] not in NETWORK
    }  # fmt: skip
    way = {(path, name) for path, name in whole if not path.startswith(GROUND)}
    matching = {(path, name) for path, name in way if path.endswith("matching.py") or name in MATCHING}
    checks = {(path, name) for path, name in way if path.startswith("model/checkpoints/") and name in CHECKS}
    way -= matching | checks
    own = {(path, name) for path, name in way if path.startswith(RESTORING_AND_PREDICTING)}
    told = "\n".join(f"{path}: {name}" for path, name in sorted(whole))
    assert len(own) <= 17 and len({path for path, _ in own}) <= 9, told
    assert len(way) <= 26 and len({path for path, _ in way}) <= 12, told
    assert len(matching) <= 8 and len(checks) <= 11, told
    assert len(whole) <= 84 and len({path for path, _ in whole}) <= 22, told
    assert not [path for path, _ in way if path.endswith(("released.py", "tf_checkpoint.py"))], told
