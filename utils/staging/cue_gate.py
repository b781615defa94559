"""When cues may be played: a function of the history of stage probabilities and nothing else."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sleep_interpreter.utils.core.constants import N2, N3, REM, UNKNOWN
from sleep_interpreter.utils.staging.settings import GateSettings


@dataclass(frozen=True)
class GateState:
    """What the gate knows after one staging.

    `probabilities` are smoothed, in the order of `utils.core.constants.STAGES`, None when the stage is unknown;
    `stage` is their argmax or `UNKNOWN`; n2, n3, rem and nrem count consecutive detections up to now; while `open`
    cues may be played.
    """

    probabilities: tuple[float, ...] | None = None
    stage: int = UNKNOWN
    n2: int = 0
    n3: int = 0
    rem: int = 0
    nrem: int = 0
    open: bool = False


def blend(old: ArrayLike | None, new: ArrayLike, weight: float) -> np.ndarray:
    """Return weight * new + (1 - weight) * old; without old probabilities (None) the new ones."""
    new = np.asarray(new, float)
    return new if old is None else weight * new + (1 - weight) * np.asarray(old)


def states(history: Iterable[np.ndarray | None], settings: GateSettings) -> list[GateState]:
    """Return the `GateState` after each estimate (4,) of a night's history, None where the stager could not tell."""
    state, found = GateState(), []
    for probabilities in history:
        state = advance(state, probabilities, settings)
        found.append(state)
    return found


def advance(state: GateState, probabilities: ArrayLike | None, settings: GateSettings) -> GateState:
    """Return the gate's state after a new stage estimate (4,).

    p = smoothing * new + (1 - smoothing) * old; the first estimate, and the first one after an unknown one, starts p.
    The gate is open when P(N2) + P(N3) is at least `nrem_probability` and at least `nrem_detections` stagings in a
    row said N2 or N3 (published rule); with `rem` on, also when P(R) and the count of R detections reach theirs.
    None: the stager could not tell, so everything starts again and the gate closes.
    """
    if probabilities is None:
        return GateState()
    new = blend(state.probabilities, probabilities, settings.smoothing)
    stage = int(new.argmax())
    n2 = state.n2 + 1 if stage == N2 else 0
    n3 = state.n3 + 1 if stage == N3 else 0
    rem = state.rem + 1 if stage == REM else 0
    nrem = state.nrem + 1 if stage in (N2, N3) else 0
    # Compared at 1e-9: 0.3 + 0.5 must count as 0.8.
    deep = new[N2] + new[N3] >= settings.nrem_probability - 1e-9 and nrem >= settings.nrem_detections
    dream = settings.rem and new[REM] >= settings.rem_probability - 1e-9 and rem >= settings.rem_detections
    return GateState(tuple(float(p) for p in new), stage, n2, n3, rem, nrem, bool(deep or dream))
