"""What the training loop asks of a reader of trials; a new reader is one file with a class that has this."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

Batch = dict[str, np.ndarray]
"""Arrays of one batch by name, trials along the first axis."""


@runtime_checkable
class TrialReader(Protocol):
    """Trials in batches.

    Readers here: `training_trials.TrainingTrials` and `staging_windows.StagingWindows` (from files, by
    `records.Records`), `test_trials.SubjectTrials` (in memory). No reader inherits from this class.
    One that reads files may have their `marks` (`utils.core.file_hashes.marks`), to be the same after every epoch.
    """

    @property
    def unit(self) -> str:
        """What one trial is called on screen: "trial", "window"."""

    def __len__(self) -> int:
        """Return the number of trials in an epoch."""

    def batches(self, batch_size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch; their order depends on `seed` and `epoch` only.

        The keys are the inputs of the network ("image", "audio" and "sleep", or "window"), float32 with
        shape (B, T, C), and "label", float32 one-hot (B, classes).
        """
