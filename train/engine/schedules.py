"""Learning-rate schedules: which share of the learning rate an epoch is trained with.

A schedule takes the epoch (from 0), the number of epochs and `ScheduleSettings`, and returns a factor. Another one is
such a function and one line in `train.settings.experiment.SCHEDULES`, or an entry point of a package.
"""

import math

from sleep_interpreter.train.settings.experiment import SCHEDULES, ScheduleSettings


def factor(epoch: int, epochs: int, settings: ScheduleSettings) -> float:
    """Return the factor of an epoch: a rise over the warm-up epochs, then the schedule over those that are left."""
    warmup = min(settings.warmup_epochs, epochs)
    if epoch < warmup:
        return (epoch + 1) / (warmup + 1)
    found: float = SCHEDULES.load(settings.kind)(epoch - warmup, epochs - warmup, settings)
    return found


def constant(epoch: int, epochs: int, settings: ScheduleSettings) -> float:
    """Return 1, as published."""
    return 1.0


def cosine(epoch: int, epochs: int, settings: ScheduleSettings) -> float:
    """Return half a cosine from 1 down to `floor` in the last epoch (Loshchilov and Hutter 2017, without restarts)."""
    done = epoch / max(1, epochs - 1)
    return settings.floor + (1 - settings.floor) * (1 + math.cos(math.pi * done)) / 2


def steps(epoch: int, epochs: int, settings: ScheduleSettings) -> float:
    """Return a factor that is multiplied by `drop` every `every_epochs` epochs, and never below `floor`."""
    return max(settings.floor, settings.drop ** (epoch // settings.every_epochs))
