"""The Lasso GLM at every time sample of a set of trials."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sleep_interpreter.model.lasso_glm import parts


@dataclass(eq=False, repr=False)
class TimeResolvedLassoGLM(parts.Parameters):
    """A `LassoGLM` for each time sample, all T x K problems in one call.

    Parameters are as there; percentiles are per time sample and channel. Labels are 0 to `classes` - 1 (None: as
    many as the largest label met in `fit` says); a class without a training trial gets coefficients 0 and
    intercept -inf: probability 0, never predicted. Fitted, float64: `coef_` (T, K, C) of the scaled channels,
    `intercept_` and `residual_` (T, K), `scale_` (T, C) that training channels were divided by.
    """

    classes: int | None = None

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Fit to trials X (n, T, C) of classes y (n,), whole numbers from 0; NaN is refused."""
        parts.check_parameters(self.l1, self.l2, self.scale, self.percentile)
        X, y = _checked(X), np.asarray(y)  # noqa: N806
        if y.shape != (len(X),) or y.dtype.kind not in "iu" or not len(y) or y.min() < 0:
            raise ValueError(f"y: expected {len(X)} whole numbers from 0, found {y.dtype} {y.shape}")
        classes = self.classes or int(y.max()) + 1
        if y.max() >= classes:
            raise ValueError(f"y holds {y.max()}, classes={classes} allows 0 to {classes - 1}")
        self.scale_ = np.ones(X.shape[1:]) if self.scale is None else parts.channel_scale(X, self.percentile)
        self.coef_, self.intercept_, self.residual_ = parts.fit(
            X / self.scale_, y, classes, self.l1, self.l2, self.tol, self.newton_steps
        )
        return self

    @property
    def weights_(self) -> np.ndarray:
        """What trials as `prepared` returns them are multiplied by, float64 (T, K, C)."""
        return self.coef_ / self.scale_[:, None] if self.scale == "train" else self.coef_

    def prepared(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return trials (n, T', C) of any length, scaled by their own percentiles if that is the rule."""
        X = _checked(X).astype(np.float64)  # noqa: N806
        return X / parts.channel_scale(X, self.percentile) if self.scale == "own" else X

    def decision_function(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return the log odds of every class against the rest, float64 (n, T, K)."""
        check_is_fitted(self)
        X = self.prepared(X)  # noqa: N806
        if X.shape[1:] != self.scale_.shape:
            raise ValueError(f"trials of {X.shape[1:]}, fitted were {self.scale_.shape} (samples, channels)")
        odds = np.matmul(X.transpose(1, 0, 2), self.weights_.transpose(0, 2, 1)) + self.intercept_[:, None]
        return odds.transpose(1, 0, 2)

    def predict_proba(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return the classes' probabilities divided by their sum, float64 (n, T, K); see `LassoGLM`."""
        return parts.normalised(self.decision_function(X))

    def predict(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return the class of the largest probability, int64 (n, T); ties go to the first."""
        return self.decision_function(X).argmax(axis=-1)

    def score(self, X: ArrayLike, y: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return the share of trials decoded rightly at each time sample, float64 (T,)."""
        return (self.predict(X) == np.asarray(y)[:, None]).mean(axis=0)

    def patterns(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return what the decoders' outputs look like on the scalp, float64 (T, K, C); X are the trials of `fit`.

        Coefficients say how to read a signal, not where it is. Haufe et al. (2014, NeuroImage 87): the
        covariance of the channels with a decoder's output; divided by the output's standard deviation it is
        the change of a channel, in its unit, that goes with one standard deviation of the output.
        """
        check_is_fitted(self)
        X = _checked(X).astype(np.float64)  # noqa: N806
        centred = (X - X.mean(axis=0)).transpose(1, 0, 2)
        spatial = np.matmul(centred.transpose(0, 2, 1), centred) / len(X)
        weights = self.coef_ / self.scale_[:, None]
        covariance = np.matmul(weights, spatial)
        spread = np.sqrt(np.maximum((covariance * weights).sum(axis=2), 0.0))[..., None]
        return np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 0)


def _checked(X: ArrayLike) -> np.ndarray:  # noqa: N803
    X = np.asarray(X)  # noqa: N806
    if X.ndim != 3 or X.dtype.kind not in "fiu" or not len(X):
        raise ValueError(f"expected trials as numbers (n, samples, channels), found {X.dtype} {X.shape}")
    if not np.isfinite(X).all():
        trial, sample, channel = np.argwhere(~np.isfinite(X))[0]
        raise ValueError(f"trial {trial}, sample {sample}, channel {channel}: NaN or infinite")
    return X
