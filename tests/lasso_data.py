"""A small cohort of Whole_data.pickle files whose planted time course is known."""

from pathlib import Path

import numpy as np

from sleep_interpreter.utils.core.constants import ITEMS
from sleep_interpreter.utils.core.provenance import MARK
from sleep_interpreter.utils.core.safe_pickle import write_pickle

PLANTED = {"image": 0.30, "audio": 0.40, "sleep": 0.62}
"""Seconds after onset (asleep: after the cue) at which the items differ most."""
WIDTH = 0.04
"""Standard deviation in s of the planted component."""
LENGTHS = {"awake_image": 80, "awake_audio": 80, "N2N3": 200, "REM": 200}


def trials(key, count, strength, seed, patterns, items=ITEMS):
    """Return `count` trials of each item: noise that is alike on neighbouring channels, and a component."""
    random = np.random.default_rng(seed)
    label = random.permutation(np.repeat(np.arange(len(items)), count))
    samples = LENGTHS[key]
    noise = random.standard_normal((len(label), 55, samples))
    noise = noise + 0.7 * np.roll(noise, 1, axis=1) + 0.8 * np.roll(noise, 1, axis=2)
    asleep = samples == 200
    seconds = np.arange(samples) / 100 - (0.2 if asleep else 0.0)
    peak = PLANTED["sleep" if asleep else key.removeprefix("awake_")]
    course = np.exp(-0.5 * ((seconds - peak) / WIDTH) ** 2)
    eeg = noise + strength * patterns[[ITEMS.index(items[k]) for k in label]][:, :, None] * course
    return [
        {MARK: True, "category": items[k], "EEG": own.astype(np.float32)} for k, own in zip(label, eeg, strict=True)
    ]


def write_cohort(root, subjects=4, awake=8, asleep=6, strength=1.5, seed=0, skip=()):
    """Write subjects (the last as a test subject); `skip` holds (subject, key) of lists to leave empty."""
    patterns = np.random.default_rng(99).standard_normal((len(ITEMS), 55))
    for number in range(subjects):
        name = f"subject_{number}" if number < subjects - 1 else "subject_test_0"
        folder = Path(root) / ("SI Main Test" if "test" in name else "SI Main Train") / name
        content = {}
        for place, key in enumerate(LENGTHS):
            count = awake if place < 2 else asleep
            own = trials(key, count, strength, [seed, number, place], patterns)
            content[key] = [] if (number, key) in skip else own
        write_pickle(content, folder / "Whole_data.pickle")
    return Path(root)


def arrays(folder):
    """Return every array of every subject's result in a folder."""
    found = {}
    for file in sorted((folder / "subjects").iterdir()):
        with np.load(file) as stored:
            found |= {f"{file.stem}:{key}": stored[key] for key in stored.files}
    return found


def same(one, two):
    """Assert that two runs of an experiment have the same results, bit by bit."""
    left, right = arrays(one), arrays(two)
    assert list(left) == list(right)
    for key in left:
        np.testing.assert_array_equal(left[key], right[key], err_msg=key)
    for table in one.glob("*.csv"):
        assert table.read_bytes() == (two / table.name).read_bytes()
