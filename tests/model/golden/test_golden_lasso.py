"""The Lasso GLM gives what glmnet gives, and what the same problem solved to 1e-14 gives."""

from pathlib import Path

import numpy as np
import pytest

from sleep_interpreter.model.lasso_glm import LassoGLM, TimeResolvedLassoGLM


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "figures" / "lasso.npz") as stored:
        return dict(stored)


def test_coefficients_probabilities_and_accuracy(golden):
    glm = LassoGLM(l1=float(golden["lambda"]), scale=None).fit(golden["X_train"], golden["y"])
    assert np.abs(glm.coef_ - golden["coef"]).max() < 5e-6
    assert np.abs(glm.intercept_ - golden["intercept"]).max() < 5e-6
    assert np.abs(glm.coef_ - golden["coef_polished"]).max() < 2e-7
    assert np.abs(glm.intercept_ - golden["intercept_polished"]).max() < 2e-7
    probability = 1 / (1 + np.exp(-glm.log_odds(golden["X_test"])))
    assert np.abs(probability - golden["proba"]).max() < 1e-6
    assert glm.score(golden["X_test"], golden["y_test"]) == golden["accuracy"]


def test_scaling_by_each_sets_own_percentile(golden):
    glm = LassoGLM(l1=float(golden["lambda"])).fit(golden["X_train_raw"], golden["y"])
    assert np.abs(glm.coef_ - golden["coef_polished"]).max() < 2e-7
    assert glm.score(golden["X_test_raw"], golden["y_test"]) == golden["accuracy"]


def test_time_resolved_solves_the_same_problem_at_every_sample(golden):
    train = np.repeat(golden["X_train_raw"][:, None], 3, axis=1) * [[[1.0], [2.0], [0.1]]]
    glm = TimeResolvedLassoGLM(l1=float(golden["lambda"]), classes=5).fit(train, golden["y"])
    assert np.abs(glm.coef_ - golden["coef_polished"]).max() < 2e-7
    test = np.repeat(golden["X_test_raw"][:, None], 3, axis=1)
    assert (glm.score(test, golden["y_test"]) == golden["accuracy"]).all()
