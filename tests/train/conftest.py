"""One simulated cohort for all tests of the training scripts; read only."""

import os
import time

import pytest
import training_runs as runs


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """NREM trials of 4 training and 2 test subjects; who changes a file copies it first.

    Simulated once for all processes of the run: the first one does it, the others wait.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return runs.simulate(tmp_path_factory.mktemp("simulated") / "test")
    shared = tmp_path_factory.getbasetemp().parent / "simulated"
    try:
        shared.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + 300
        while not (shared / "done").exists():
            assert time.monotonic() < deadline and not (shared / "failed").exists(), "see the first process"
            time.sleep(0.2)
    else:
        try:
            runs.simulate(shared / "test")
        except BaseException:
            (shared / "failed").touch()
            raise
        (shared / "done").touch()
    return shared / "test"
