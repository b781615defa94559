"""What the training loop asks of a reader: every reader of this project has it, without a common parent."""

import numpy as np
import pytest

from benchmarks.decoding import fingermovements
from sleep_interpreter.data.formats.staging_windows import StagingWindows
from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.formats.training_trials import TrainingTrials
from sleep_interpreter.data.formats.trial_reader import TrialReader

READERS = {
    "training trials": lambda root: TrainingTrials(root),
    "training trials without awake ones": lambda root: TrainingTrials(root, "REM", awake=False),
    "a test subject's part": lambda root: read_test_subjects(root, awake=True)[0].part("train"),
    "staging windows": lambda root: StagingWindows(root),
    "another data set": lambda _: fingermovements.Trials(np.zeros((5, 50, 16)), np.array([0, 1, 1, 0, 1])),
}


@pytest.mark.parametrize("name", READERS)
def test_every_reader_is_a_trial_reader(cohort, name):
    reader: TrialReader = READERS[name](cohort)
    assert isinstance(reader, TrialReader)
    assert reader.unit in ("trial", "window")
    batches = list(reader.batches(4, seed=0, epoch=0))
    assert sum(len(batch["label"]) for batch in batches) == len(reader) > 0
    for key, values in batches[0].items():
        assert values.dtype == np.float32 and len(values) == min(4, len(reader)), key
    again = next(iter(reader.batches(4, seed=0, epoch=0)))
    assert all(np.array_equal(again[key], values) for key, values in batches[0].items())
