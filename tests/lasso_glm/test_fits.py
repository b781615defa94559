"""`within` and `cross`: no trial helps to decode itself, and what is reused is what would be fitted anew."""

import numpy as np
import pytest

from sleep_interpreter.lasso_glm.engine import fits
from sleep_interpreter.model.lasso_glm import TimeResolvedLassoGLM

CLASSES = 4
WINDOWS = {"step": 3, "count": 4}


def trials(n, times, peak, seed, strength=2.0, channels=12):
    random = np.random.default_rng(seed)
    patterns = np.random.default_rng(7).standard_normal((CLASSES, channels))
    label = random.permutation(np.arange(n) % CLASSES)
    course = np.exp(-0.5 * ((np.arange(times) - peak) / 1.5) ** 2)
    eeg = random.standard_normal((n, times, channels))
    return (eeg + strength * patterns[label][:, None] * course[:, None]).astype(np.float32), label


def test_folds_are_a_partition_of_the_subjects_own():
    folds = fits.folds_of(103, 5, 1642, "subject_1")
    assert sorted(np.concatenate(folds)) == list(range(103))
    assert {len(fold) for fold in folds} == {20, 21}
    again, other = (fits.folds_of(103, 5, 1642, name) for name in ("subject_1", "subject_2"))
    assert all(np.array_equal(a, b) for a, b in zip(folds, again, strict=True))
    assert not np.array_equal(folds[0], other[0])


def test_within_is_test_validation_and_three_to_train():
    eeg, label = trials(100, 12, 6, 0)
    folds = fits.folds_of(100, 5, 0, "subject_1")
    result = fits.within(eeg, label, folds, CLASSES)
    for k in range(5):
        train = np.concatenate([folds[(k + 2) % 5], folds[(k + 3) % 5], folds[(k + 4) % 5]])
        glm = TimeResolvedLassoGLM(classes=CLASSES).fit(eeg[train], label[train])
        test, validation = folds[k], folds[(k + 1) % 5]
        np.testing.assert_allclose(result["hits"][k] / len(test), glm.score(eeg[test], label[test]))
        np.testing.assert_allclose(
            result["validation_hits"][k] / len(validation), glm.score(eeg[validation], label[validation])
        )
        np.testing.assert_array_equal(result["decoded"][k].sum(axis=1), len(test))
        assert result["trained"][k].sum() == 60
    assert result["residual"] <= 1e-9
    assert abs(result["hits"].sum(axis=0).argmax() - 6) <= 1


def test_labels_of_the_test_fold_change_nothing_but_its_score():
    eeg, label = trials(100, 12, 6, 0)
    folds = fits.folds_of(100, 5, 0, "subject_1")
    other = label.copy()
    other[folds[0]] = (label[folds[0]] + 1) % CLASSES
    one, two = (fits.within(eeg, own, folds, CLASSES) for own in (label, other))
    np.testing.assert_array_equal(one["decoded"][0], two["decoded"][0])
    np.testing.assert_array_equal(one["validation_hits"][0], two["validation_hits"][0])


@pytest.mark.parametrize("scale", ["own", "train", None])
@pytest.mark.parametrize("asleep_trains", [False, True])
def test_cross_equals_a_fit_for_every_window(scale, asleep_trains):
    awake, asleep = trials(60, 8, 3, 1), trials(72, 20, 9, 2)
    train, test = (asleep, awake) if asleep_trains else (awake, asleep)
    shared, results = fits.cross(train, {"it": test}, WINDOWS, CLASSES, scale=scale)
    maps = results["it"]["hits"] / len(test[1])
    for offset in range(4):
        window = slice(3 * offset, 3 * offset + 8)
        own = [eeg[:, window] if eeg is asleep[0] else eeg for eeg in (train[0], test[0])]
        glm = TimeResolvedLassoGLM(classes=CLASSES, scale=scale).fit(own[0], train[1])
        np.testing.assert_array_equal(maps[offset], glm.score(own[1], test[1]))
    assert len(shared["fitted"]) == (17 if asleep_trains else 8)
    assert maps[2, 3] > 0.7 > maps[0, 3]  # planted at sample 3 awake and 9 asleep: 2 steps of 3 apart


def test_generalisation_holds_the_windows():
    awake, asleep = trials(60, 8, 3, 1), trials(72, 20, 9, 2)
    _, plain = fits.cross(awake, {"it": asleep}, WINDOWS, CLASSES)
    _, full = fits.cross(awake, {"it": asleep}, WINDOWS, CLASSES, generalise=True)
    assert full["it"]["generalised"].shape == (8, 20)
    slides = fits.window_samples(WINDOWS, 8, 20)
    np.testing.assert_array_equal(full["it"]["generalised"][np.arange(8), slides], plain["it"]["hits"])
    for key in ("hits", "decoded", "cued", "n"):
        np.testing.assert_array_equal(full["it"][key], plain["it"][key])


class NearestMean:
    """A baseline of another kind: the class with the nearest mean, at every time sample."""

    def __init__(self, classes, **unused):
        self.classes = classes

    def fit(self, X, y):  # noqa: N803
        means = np.array([X[y == k].mean(axis=0) for k in range(self.classes)]).transpose(1, 0, 2)
        self.weights_, self.intercept_ = means, -0.5 * (means**2).sum(axis=2)
        self.residual_ = np.zeros(means.shape[:2])
        return self

    def prepared(self, X):  # noqa: N803
        return X.astype(float)

    def predict(self, X):  # noqa: N803
        return (np.einsum("ntc,tkc->ntk", X, self.weights_) + self.intercept_).argmax(axis=2)

    def patterns(self, X):  # noqa: N803
        return self.weights_


def test_another_baseline_is_a_class_and_a_line(monkeypatch):
    monkeypatch.setitem(fits.BASELINES, "nearest mean", NearestMean)
    eeg, label = trials(100, 12, 6, 0)
    inside = fits.within(eeg, label, fits.folds_of(100, 5, 0, "s"), CLASSES, "nearest mean", l1=0.1)
    assert inside["hits"].sum(axis=0)[6] > 70 and inside["residual"] == 0
    awake, asleep = trials(60, 8, 3, 1), trials(72, 20, 9, 2)
    _, results = fits.cross(awake, {"it": asleep}, WINDOWS, CLASSES, baseline="nearest mean")
    maps = results["it"]["hits"] / 72
    assert maps[2, 3] > 0.7 > maps[0, 3]


def test_a_class_absent_from_training_is_never_decoded():
    eeg, label = trials(80, 8, 3, 1)
    few = label != 3
    _, results = fits.cross((eeg[few], label[few]), {"it": trials(40, 20, 9, 2)}, WINDOWS, CLASSES)
    assert not results["it"]["decoded"][..., 3].any() and results["it"]["cued"][3] == 10
