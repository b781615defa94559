"""A small cohort of Whole_data.pickle files whose planted time course is known."""

from pathlib import Path

import numpy as np

from sleep_interpreter.utils.core import data_card
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.provenance import MARK
from sleep_interpreter.utils.core.safe_pickle import write_pickle

CARD = published()
ITEMS = CARD.item_names
PLANTED = {"image": 0.30, "audio": 0.40, "sleep": 0.62}
"""Seconds after onset (asleep: after the cue) at which the items differ most."""
WIDTH = 0.04
"""Standard deviation in s of the planted component."""
KEYS = ("awake_image", "awake_audio", "N2N3", "REM")


def trials(key, count, strength, seed, patterns, items=ITEMS, card=CARD):
    """Return `count` trials of each item: noise that is alike on neighbouring channels, and a component."""
    random = np.random.default_rng(seed)
    label = random.permutation(np.repeat(np.arange(len(items)), count))
    asleep = not key.startswith("awake")
    shape = card.sleep_shape if asleep else card.awake_shape
    noise = random.standard_normal((len(label), *shape))
    noise = noise + 0.7 * np.roll(noise, 1, axis=1) + 0.8 * np.roll(noise, 1, axis=2)
    window = card.windows.sleep if asleep else card.windows.wake
    seconds = np.arange(shape[1]) / card.rate_hz + window.begin
    peak = PLANTED["sleep" if asleep else key.removeprefix("awake_")]
    course = np.exp(-0.5 * ((seconds - peak) / WIDTH) ** 2)
    eeg = noise + strength * patterns[[card.item_names.index(items[k]) for k in label]][:, :, None] * course
    return [
        {MARK: True, "category": items[k], "EEG": own.astype(np.float32)} for k, own in zip(label, eeg, strict=True)
    ]


def write_cohort(root, subjects=4, awake=8, asleep=6, strength=1.5, seed=0, skip=(), card=CARD):
    """Write subjects (the last as a test subject); `skip` holds (subject, key) of lists to leave empty."""
    patterns = np.random.default_rng(99).standard_normal((len(card.items), len(card.channels)))
    data_card.write(card, root)
    for number in range(subjects):
        name = f"subject_{number}" if number < subjects - 1 else "subject_test_0"
        folder = Path(root) / ("SI Main Test" if "test" in name else "SI Main Train") / name
        content = {}
        for place, key in enumerate(KEYS):
            if key.removeprefix("awake_") not in card.conditions:
                continue
            count = awake if place < 2 else asleep
            own = trials(key, count, strength, [seed, number, place], patterns, card.item_names, card)
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
