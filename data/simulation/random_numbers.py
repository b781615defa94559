"""Named random numbers: what is drawn for one purpose does not depend on what else is simulated."""

import zlib

import numpy as np


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return the random generator of one named purpose, e.g. "test", 7, "N2N3".

    What is drawn for one purpose (a subject, a kind of trial) does not depend on what else is simulated,
    so subject 7 is the same in a cohort of 10 and in one of 100.
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in purpose]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


def variation(rng: np.random.Generator, sd: float, n: int | None = None) -> np.ndarray:
    """Return factors around 1: lognormal, `sd` of the logarithm, mean 1."""
    return np.exp(sd * rng.standard_normal(n) - 0.5 * sd**2)
