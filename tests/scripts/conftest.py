"""One simulated cohort for all tests of the training scripts; read only."""

import pytest
import training_runs as runs


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """NREM trials of 4 training and 2 test subjects; who changes a file copies it first."""
    return runs.simulate(tmp_path_factory.mktemp("simulated") / "test")
