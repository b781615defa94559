"""Augmentation of training batches: trials that are changed a little every time they are met.

An augmentation takes trials (B, T, C), their class indices (B,), its `amount` and a random generator, and returns
trials of the same shape. Another one is such a function and one line in `train.settings.experiment.AUGMENTATIONS`, or
an entry point of a package. None is the default, as published. Labels are never changed.

Where trials are of unequal length, NaN stands behind the end of a shorter one, and has to stand there afterwards.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from sleep_interpreter.data.formats.trial_reader import Batch
from sleep_interpreter.train.settings.experiment import AUGMENTATIONS, AugmentationSettings
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.trial_ends import not_finite, valid_lengths


def augmented(
    batches: Iterable[Batch], chosen: Sequence[AugmentationSettings], seed: int, epoch: int
) -> Iterator[Batch]:
    """Yield the batches of an epoch, augmented; what is drawn depends on seed, epoch and place of the batch alone."""
    if not chosen:
        yield from batches
        return
    functions = [AUGMENTATIONS.load(settings.kind) for settings in chosen]
    for number, batch in enumerate(batches):
        random = np.random.default_rng([3, seed, epoch, number])
        label = np.asarray(batch["label"]).argmax(axis=1)
        result = dict(batch)
        for settings, change in zip(chosen, functions, strict=True):
            for key in settings.signals:
                if key in result:
                    some = random.random(len(label)) < settings.share
                    changed = change(result[key], label, settings.amount, random)
                    ended = np.isnan(result[key])
                    if ended.any() and (not_finite(changed).any() or np.isfinite(changed[ended]).any()):
                        raise UserError(
                            f"train.augment: {settings.kind!r} does not keep to the ends of trials of unequal length "
                            "(NaN stands behind them); leave it out"
                        )
                    result[key] = np.where(some[:, None, None], changed, result[key]).astype(np.float32)
        yield result


def time_shift(trials: np.ndarray, label: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    """Shift each trial by up to `amount` samples to either side; its first or last sample fills the gap."""
    length, most = trials.shape[1], int(amount)
    shifts = random.integers(-most, most + 1, len(trials))
    places = np.clip(np.arange(length) - shifts[:, None], 0, valid_lengths(trials)[:, None] - 1)
    return np.where(np.isnan(trials), trials, np.take_along_axis(trials, places[:, :, None], axis=1))


def channel_dropout(trials: np.ndarray, label: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    """Set each channel of each trial to 0, its median, with probability `amount`."""
    return trials * (random.random((len(trials), 1, trials.shape[2])) >= amount)


def noise(trials: np.ndarray, label: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise with a standard deviation of `amount`, in the unit of the trials."""
    return trials + amount * random.standard_normal(trials.shape)


def mixup(trials: np.ndarray, label: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    """Mix each trial with another one of the same item in the batch, by a share of Beta(`amount`, `amount`).

    Other than in Zhang et al. (2018) items are never mixed, so that labels and contrastive pairs stay what they are.
    Of trials of unequal length the mixture ends where the shorter one does.
    """
    partner = np.arange(len(trials))
    for item in np.unique(label):
        own = np.flatnonzero(label == item)
        partner[own] = random.permutation(own)
    share = random.beta(amount, amount, len(trials))[:, None, None]
    return share * trials + (1 - share) * trials[partner]


def fourier_surrogate(trials: np.ndarray, label: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    """Turn the phases of each trial by up to `amount` of half a turn, the same for all channels at a frequency.

    Spectra and cross-spectra stay (Schwabedal et al. 2018); 1 leaves nothing of when something happened.
    """
    lengths = valid_lengths(trials)
    turned = np.full(trials.shape, np.nan)
    for length in np.unique(lengths):
        own = lengths == length
        spectrum = np.fft.rfft(trials[own, :length], axis=1)
        phase = random.uniform(-np.pi, np.pi, spectrum.shape[:2]) * amount
        phase[:, 0] = 0
        if length % 2 == 0:
            phase[:, -1] = 0
        turned[own, :length] = np.fft.irfft(spectrum * np.exp(1j * phase)[:, :, None], length, axis=1)
    return turned
