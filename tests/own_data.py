"""Small data sets of experiments of one's own: other items, channels, rates and windows than the published ones."""

from dataclasses import replace

import numpy as np

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.formats.test_trials import TestSubject
from sleep_interpreter.data.formats.tfrecords import sleep_schema, whole_schema, write_records
from sleep_interpreter.utils.core import data_card
from sleep_interpreter.utils.core.data_card import DataCard, published
from sleep_interpreter.utils.core.safe_pickle import write_pickle

EXPERIMENTS = {
    "words": (8, 32, 250.0, (-0.5, 2.5), (0.0, 1.0)),
    "pair": (2, 8, 128.0, (-0.25, 0.75), (0.0, 0.5)),
    "many": (40, 128, 100.0, (0.0, 4.0), (0.0, 0.8)),
}
"""Items, channels, rate in Hz, windows of sleep and wake in s."""
VARYING = {"sleep": {"begin": -0.25, "end": 1.0, "earliest_end": 0.75}, "wake": {"begin": 0.0, "end": 0.5}}
"""Windows of trials of unequal length."""


def card_of(name="words", **changes):
    """Return the card of one of `EXPERIMENTS`."""
    items, channels, rate, sleep, wake = EXPERIMENTS[name]
    names = published().channels[:channels] if channels <= 55 else tuple(f"E{i + 1}" for i in range(channels))
    tree = {
        "title": name,
        "items": [{"name": f"word {chr(97 + i // 26)}{chr(97 + i % 26)}"} for i in reversed(range(items))],
        "channels": names,
        "rate_hz": rate,
        "windows": {"sleep": dict(zip(("begin", "end"), sleep, strict=True)),
                    "wake": dict(zip(("begin", "end"), wake, strict=True))},
        "awake_per_sleep": 3,
    }  # fmt: skip
    return DataCard.model_validate(tree | changes)


def trials(card, n, seed):
    """Return labels (n,) and noise with a pattern of the item: sleep, image and audio trials, channels first."""
    random = np.random.default_rng(seed)
    patterns = np.random.default_rng(1).standard_normal((len(card.items), len(card.channels)))
    label = np.arange(n) % len(card.items)

    def noise(*shape):
        return (
            random.standard_normal(shape) + 0.5 * patterns[label].reshape(n, *[1] * (len(shape) - 3), -1, 1)
        ).astype(np.float32)

    awake = [noise(n, card.awake_per_sleep, *card.awake_shape) for _ in range(2)]
    sleep = noise(n, *card.sleep_shape)
    if card.varying_lengths:
        for trial in sleep:
            trial[:, random.integers(card.shortest_samples, card.sleep_samples + 1) :] = np.nan
    return label, sleep, *awake


def write(root, card, n=16):
    """Write a data set of 2 training and 3 test subjects and its card."""
    data_card.write(card, root)
    for subject in range(2):
        label, sleep, image, audio = trials(card, n, subject)
        records = [
            {
                "category_name": np.eye(len(card.items), dtype=np.float32)[k],
                "feature_Sleep_EEG": sleep[i],
                "feature_awake_image_erp": image[i],
                "feature_awake_audio_erp": audio[i],
            }
            for i, k in enumerate(label)
        ]
        folder = root / "SI Main Train_tfrecords" / "N2N3"
        for name, schema in (("Whole", whole_schema(card)), ("sleep", sleep_schema(card))):
            fields = [{key: record[key] for key in schema} for record in records]
            write_records(folder / f"{name}_subject_{subject}.tfrecord", schema, fields)
    for subject in range(3):
        label, sleep, image, audio = trials(card, n, 10 + subject)
        folder = root / "SI Main Test" / f"subject_test_{subject}"
        content = [
            {
                "category": card.item_names[k], "data_type": ("train", "val", "test")[i % 3], "Sleep_EEG": sleep[i],
                "awake_image_erp": image[i], "awake_audio_erp": audio[i],
            }
            for i, k in enumerate(label)
        ]  # fmt: skip
        for absent in set(data_card.AWAKE) - set(card.conditions):
            for trial in content:
                del trial[f"awake_{absent}_erp"]
        write_pickle(content, folder / "N2N3_data.pickle")
        one_hot = np.eye(len(card.items), dtype=np.float32)[label]
        group = {"label": one_hot, "decode_data": np.ascontiguousarray(sleep.transpose(0, 2, 1))}
        write_pickle({name: group for name in SO_GROUPS}, folder / "SO_data.pickle")
    return root


def reordered(root, card, out, seed=0):
    """Write the same test subjects with channels and items in another order; return the other card."""
    from sleep_interpreter.data.formats.test_trials import read_test_subjects

    random = np.random.default_rng(seed)
    channels = random.permutation(len(card.channels))
    items = random.permutation(len(card.items))
    other = card.model_copy(
        update={
            "channels": tuple(card.channels[i] for i in channels), "items": tuple(card.items[i] for i in items),
        }
    )  # fmt: skip
    data_card.write(other, out)
    for subject in read_test_subjects(root):
        content = [
            {"category": card.item_names[k], "data_type": str(t), "Sleep_EEG": np.ascontiguousarray(x.T[channels])}
            for k, t, x in zip(subject.label, subject.data_type, subject.sleep, strict=True)
        ]
        write_pickle(content, out / "SI Main Test" / subject.name / "N2N3_data.pickle")
    return other


def without(subject: TestSubject, names) -> TestSubject:
    """Return a test subject without some channels, in sleep trials and card."""
    kept = [i for i, name in enumerate(subject.card.channels) if name not in names]
    card = subject.card.model_copy(update={"channels": tuple(subject.card.channels[i] for i in kept)})
    return replace(subject, sleep=subject.sleep[..., kept], card=card)
