"""Order and draw of an epoch: functions of seed, epoch and position alone, so a resumed run repeats them."""

import numpy as np

from sleep_interpreter.utils.core.errors import UserError


def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of `count` trials in an epoch, int array (count,)."""
    return np.random.default_rng([0, seed, epoch]).permutation(count)


def awake_draws(count: int, seed: int, epoch: int, awake_per_sleep: int = 15) -> np.ndarray:
    """Return which of its awake trials goes with the trial at each position of an epoch, int (count,)."""
    return np.random.default_rng([1, seed, epoch]).integers(awake_per_sleep, size=count)


def slices(count: int, batch_size: int, drop_last: bool = False) -> list[slice]:
    """Return the slices that cut `count` trials into batches."""
    if batch_size < 1:
        raise UserError(f"batch size {batch_size}: must be at least 1")
    stop = count - count % batch_size if drop_last else count
    return [slice(start, min(start + batch_size, count)) for start in range(0, stop, batch_size)]
