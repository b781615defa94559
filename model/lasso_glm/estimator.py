"""The Lasso GLM of one time sample, as a scikit-learn classifier."""

from typing import Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from sleep_interpreter.model.lasso_glm import parts


class LassoGLM(ClassifierMixin, parts.Parameters):
    """One-vs-rest binomial GLM with an L1 (and L2) penalty and a free intercept.

    Minimises, for every class against the rest, -(1/n) log-likelihood + l1 sum|b| + (l2/2) sum b^2: the
    objective of glmnet and MATLAB's lassoglm without standardisation. scikit-learn's C is 1 / (n l1).

    Channels are divided by a percentile (MATLAB's prctile; 0 divides nothing) of |x| over the trials: with `scale`
    "own" (published) that of the very set handed in, to train on or to predict, so a prediction depends on the
    trials predicted with it; "train" that of the training trials; None not at all. The penalties 0.005 and 0 are
    the published ones. Fitting stops at a violation `tol` of the optimality conditions, or after `newton_steps`
    with a `ConvergenceWarning`.

    Fitted, float64: `coef_` (K, p) of the scaled channels, `intercept_` (K,), `scale_` (p,) that training channels
    were divided by, `residual_` (K,), the largest violation; `classes_` (K,).
    """

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:  # noqa: N803
        """Fit to trials X (n, p) of classes y (n,); NaN is refused."""
        parts.check_parameters(self.l1, self.l2, self.scale, self.percentile)
        X, y = validate_data(self, X, y, dtype=np.float64)  # noqa: N806
        check_classification_targets(y)
        self.classes_, label = np.unique(y, return_inverse=True)
        self.scale_ = np.ones(X.shape[1]) if self.scale is None else parts.channel_scale(X, self.percentile)
        found = parts.fit(
            (X / self.scale_)[:, None], label, len(self.classes_), self.l1, self.l2, self.tol, self.newton_steps
        )
        self.coef_, self.intercept_, self.residual_ = (part[0] for part in found)
        return self

    def log_odds(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Return the log odds of every class against the rest, float64 (n, K)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)  # noqa: N806
        own = self.scale == "own"
        return X / (parts.channel_scale(X, self.percentile) if own else self.scale_) @ self.coef_.T + self.intercept_

    def decision_function(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Return `log_odds`, of two classes those of the second alone (n,), as scikit-learn wants it."""
        odds = self.log_odds(X)
        return odds[:, 1] if len(self.classes_) == 2 else odds

    def predict_proba(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Return the classes' probabilities divided by their sum, float64 (n, K).

        The GLMs know nothing of each other, so their own probabilities (the logistic function of `log_odds`)
        do not add up to 1; which is the largest is not changed.
        """
        return parts.normalised(self.log_odds(X))

    def predict(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Return the class of the largest probability; ties go to the first."""
        odds = self.log_odds(X)  # first of all: it refuses a model that is not fitted
        return self.classes_[odds.argmax(axis=1)]
