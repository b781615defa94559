"""A tiny simulated cohort, written once for all tests of the formats."""

import hashlib

import pytest

from sleep_interpreter.data.simulation.dataset import write_dataset
from sleep_interpreter.data.simulation.settings import load_settings

TINY = (
    "cohort.train_subjects=2",
    "cohort.test_subjects=1",
    "cohort.train_trials=6",
    "cohort.test_trials=10",
    "cohort.rem_trials=3",
    "cohort.so_trials=2",
    "cohort.awake_trials=2",
    "staging.train_subjects=1",
    "staging.test_subjects=1",
    "staging.epochs=2",
    "recording.stages=[[N2, 1.0]]",
    "recording.cues_from_min=0.1",
    "night.hypnogram=[[W, 0.5], [N2, 1.0], [N3, 0.5]]",
    "night.train_subjects=1",
    "night.test_subjects=1",
    "night.cues_from_min=0.0",
    "night.wake.rest_min=0.1",
)


def digests(folder):
    """Return the checksum of every file in a folder by its relative path."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.fixture(scope="session")
def tiny():
    """Settings of the tiny cohort."""
    return load_settings("test", TINY)


@pytest.fixture(scope="session")
def cohort(tiny, tmp_path_factory):
    """Folder of the tiny cohort; read only."""
    out = tmp_path_factory.mktemp("data") / "tiny"
    write_dataset(tiny, out)
    return out
