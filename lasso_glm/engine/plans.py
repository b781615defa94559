"""The Lasso GLM experiments: what each trains on and tests on. Light, so that --help is instant."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from sleep_interpreter.utils.core.data_card import DataCard


@dataclass(frozen=True)
class Plan:
    """One experiment: lasso_glm/lasso_glm_NAME.py.

    Domains to train on, one after the other; domains to test on (none: the training domain's own, in folds); the stem
    of the original's result pickle; the decoder, of `lasso_glm.engine.fits.BASELINES`.
    """

    name: str
    train: tuple[str, ...]
    tests: tuple[str, ...]
    pickle: str
    baseline: str = "lasso"

    @property
    def domains(self) -> tuple[str, ...]:
        return (*self.train, *self.tests)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """What is trained on and tested on: (train, test), ..."""
        return tuple((train, test) for train in self.train for test in self.tests or (train,))

    def for_card(self, card: "DataCard", where: str | Path) -> Self:
        """Return the experiment with the conditions that a data set in `where` has; refuse one that has none."""
        train, tests = (tuple(d for d in side if d in card.conditions) for side in (self.train, self.tests))
        for side, kept in ((self.train, train), (self.tests, tests)):
            if side and not kept:
                card.require(side[0], where)
        return replace(self, train=train, tests=tests)


PLANS = {
    plan.name: plan
    for plan in (
        Plan("image2image", ("image",), (), "lasso_image2image"),
        Plan("audio2audio", ("audio",), (), "lasso_audio2audio"),
        Plan("N2N3N2N3", ("N2N3",), (), "lasso_N2N32N2N3"),
        Plan("REM2REM", ("REM",), (), "lasso_REM2REM"),
        Plan("awake2sleep", ("image", "audio"), ("N2N3", "REM"), "lasso_awake2sleep"),
        Plan("NREM2awake", ("N2N3",), ("image", "audio"), "lasso_NREM2awake"),
        Plan("REM2awake", ("REM",), ("image", "audio"), "lasso_REM2awake"),
    )
}
"""Every experiment of lasso_glm/: a new one is a line here and its script."""
