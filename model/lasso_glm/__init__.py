"""The linear baseline: one-vs-rest binomial GLMs with an L1 penalty, solved exactly (docs/lasso.md)."""

from sleep_interpreter.model.lasso_glm.estimator import LassoGLM
from sleep_interpreter.model.lasso_glm.time_resolved import TimeResolvedLassoGLM

__all__ = ["LassoGLM", "TimeResolvedLassoGLM"]
