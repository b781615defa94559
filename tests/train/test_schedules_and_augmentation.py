"""Learning-rate schedules and augmentation: what they do, that they repeat, that the default is the published none."""

import numpy as np
import own_data as own
import pandas as pd
import pytest
import training_runs as runs
from training_runs import one_sentence, same

from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.train.engine import augmentation, schedules
from sleep_interpreter.train.settings.experiment import AUGMENTATIONS, AugmentationSettings, ScheduleSettings

LABEL = np.arange(12) % 3
TRIALS = np.random.default_rng(0).standard_normal((12, 40, 4)).astype(np.float32)
BATCH = {"sleep": TRIALS, "image": TRIALS[:, :20], "label": np.eye(3, dtype=np.float32)[LABEL]}


def factors(epochs=10, **settings):
    return [schedules.factor(epoch, epochs, ScheduleSettings(**settings)) for epoch in range(epochs)]


def test_schedules():
    assert factors() == [1.0] * 10
    cosine = factors(kind="cosine", floor=0.1)
    assert cosine[0] == 1 and cosine[-1] == pytest.approx(0.1) and all(np.diff(cosine) < 0)
    assert factors(kind="steps", every_epochs=4, drop=0.5) == [1] * 4 + [0.5] * 4 + [0.25] * 2
    assert factors(warmup_epochs=3) == [0.25, 0.5, 0.75, *[1.0] * 7]
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        ScheduleSettings(kind="cosin")


def one(kind, amount, seed=1, epoch=0, **more):
    chosen = [AugmentationSettings(kind=kind, amount=amount, **more)]
    return next(augmentation.augmented([BATCH], chosen, seed, epoch))


def test_none_is_the_default_and_what_is_drawn_repeats():
    assert next(augmentation.augmented([BATCH], (), 1, 0)) is BATCH
    for kind in AUGMENTATIONS.names():
        first, again, later = one(kind, 0.9), one(kind, 0.9), one(kind, 0.9, epoch=1)
        assert np.array_equal(first["sleep"], again["sleep"])
        assert kind == "time_shift" or not np.array_equal(first["sleep"], later["sleep"])
        assert first["image"] is BATCH["image"] and first["label"] is BATCH["label"]
        assert first["sleep"].dtype == np.float32 and first["sleep"].shape == TRIALS.shape


def test_each_augmentation_does_what_it_says():
    shifted = one("time_shift", 3)["sleep"]
    inner = [
        [k for k in range(-3, 4) if np.array_equal(new[3:-3], old[3 - k : 37 - k])]
        for new, old in zip(shifted, TRIALS, strict=True)
    ]
    assert all(len(k) == 1 for k in inner) and len({k[0] for k in inner}) > 2
    dropped = (one("channel_dropout", 0.5)["sleep"] == 0).all(axis=1)
    assert 0.2 < dropped.mean() < 0.8
    assert (one("noise", 0.1)["sleep"] - TRIALS).std() == pytest.approx(0.1, rel=0.1)
    mixed = one("mixup", 1.0)["sleep"]
    for k in range(3):
        own_item, others = TRIALS[k == LABEL].reshape(4, -1), mixed[k == LABEL].reshape(4, -1)
        _, rest, *_ = np.linalg.lstsq(own_item.T, others.T, rcond=None)
        assert (rest < 1e-6).all()  # made of trials of the same item alone
    surrogate = one("fourier_surrogate", 1.0)["sleep"]
    spectra = [np.fft.rfft(x, axis=1) for x in (TRIALS, surrogate)]
    np.testing.assert_allclose(abs(spectra[1]), abs(spectra[0]), rtol=1e-3, atol=1e-4)
    assert one("noise", 5.0, share=0.5)["sleep"].std(axis=(1, 2)).min() < 2


@pytest.mark.slow
def test_a_training_with_both_goes_on_to_the_same_bits_and_notes_them(tmp_path, call_script):
    root = own.write(tmp_path / "data", own.card_of("pair"))
    options = [
        *runs.SMALL, "--data", root, "--set", "members=1", "--set", "train.schedule={kind: cosine}",
        "--set", "train.augment=[{kind: noise, amount: 0.2}]", "--set", "train.epochs=3",
    ]  # fmt: skip
    code, stderr = call_script("train/N23SISD.py", *options, "--results", tmp_path / "whole")
    assert code == 0, stderr
    state = ("sleep_interpreter.train.engine.run_folder", "RunFolder", "write_state")
    runs.kill_at(state, "train/N23SISD.py", *options, "--results", tmp_path / "killed", nth=1)
    assert call_script("train/N23SISD.py", *options, "--results", tmp_path / "killed")[0] == 0
    folders = [tmp_path / name / "Decoding checkpoint" / "N2N3_SISD" for name in ("whole", "killed")]
    assert same(*(folder / "ensemble.npz" for folder in folders))
    assert pd.read_csv(folders[0] / "log.csv").loss.nunique() == 3
    train = checkpoint.restore(folders[0] / "ensemble.npz").notes["training"]["settings"]["train"]
    assert train["schedule"]["kind"] == "cosine" and train["augment"][0]["kind"] == "noise"
    code, stderr = call_script("train/N23SISD.py", *options, "--set", "train.epochs=4", "--results", tmp_path / "whole")
    assert code == 2
    one_sentence(stderr, "train.epochs (3 before, now 4)")
