"""The cue gate as a table: a history of probabilities in, open or closed out (SPEC section 6)."""

import numpy as np
import pytest

from sleep_interpreter.utils.core.constants import N2, N3, REM, UNKNOWN, WAKE
from sleep_interpreter.utils.staging.cue_gate import blend, states
from sleep_interpreter.utils.staging.settings import GateSettings

W_, N2_, N3_, R_ = np.eye(4)
SURE = GateSettings(smoothing=1.0, nrem_detections=3)


@pytest.mark.parametrize(
    ("history", "settings", "expected"),
    [
        # three in a row at full probability
        ([N2_, N2_, N2_, N2_], {}, [0, 0, 1, 1]),
        # N2 and N3 count together
        ([N2_, N3_, N2_], {}, [0, 0, 1]),
        # one wake closes it at once and the count starts again
        ([N2_, N2_, N2_, W_, N2_, N2_, N2_], {}, [0, 0, 1, 0, 0, 0, 1]),
        # REM is no NREM, and opens nothing unless asked for
        ([R_, R_, R_, R_], {}, [0, 0, 0, 0]),
        ([R_, R_, R_, R_], {"rem": True, "rem_detections": 2}, [0, 1, 1, 1]),
        # unknown closes it and everything begins anew
        ([N2_, N2_, N2_, None, N2_, N2_, N2_], {}, [0, 0, 1, 0, 0, 0, 1]),
        # detections alone do not do: P(N2) + P(N3) has to reach the threshold
        ([[0.3, 0.69, 0.01, 0]] * 4, {}, [0, 0, 0, 0]),
        ([[0.2, 0.5, 0.3, 0]] * 4, {}, [0, 0, 1, 1]),
        ([[0.2, 0.5, 0.3, 0]] * 4, {"nrem_probability": 0.81}, [0, 0, 0, 0]),
        # N2 + N3 can reach the threshold while the most probable stage is another one
        ([[0.4, 0.3, 0.3, 0]] * 4, {"nrem_probability": 0.6}, [0, 0, 0, 0]),
        ([], {}, []),
    ],
)
def test_table(history, settings, expected):
    rule = SURE.model_copy(update=settings)
    assert [int(state.open) for state in states(history, rule)] == expected


def test_published_rule_opens_at_the_thirtieth_detection():
    found = states([N2_] * 31, GateSettings())
    assert [state.nrem for state in found] == list(range(1, 32))
    assert [state.open for state in found] == [False] * 29 + [True] * 2


def test_published_smoothing_after_wake():
    """From certain wake: 1 - 0.8 ** k reaches 0.8 at k = 8, so the gate waits for both rules."""
    found = states([W_] + [N2_] * 40, GateSettings(nrem_detections=1))
    assert [state.open for state in found].index(True) == 8
    np.testing.assert_allclose(found[8].probabilities, [0.8**8, 1 - 0.8**8, 0, 0])
    # the first three steps still say wake: 0.8, 0.64, 0.512
    assert [state.stage for state in found[:5]] == [WAKE] * 4 + [N2]


def test_the_gate_depends_on_the_history_alone():
    random = np.random.default_rng(0)
    history = list(random.dirichlet(np.ones(4), 60))
    history[20] = None
    once, again = states(history, SURE), states(history, SURE)
    assert once == again
    assert states(history[:35], SURE) == once[:35], "what comes later changes nothing"
    assert once[20].stage == UNKNOWN and once[20].probabilities is None
    counts = {N2: "n2", N3: "n3", REM: "rem"}
    for state in once:
        for code, name in counts.items():
            assert (getattr(state, name) > 0) == (state.stage == code)


def test_blend():
    np.testing.assert_allclose(blend(None, [0.1, 0.9, 0, 0], 0.2), [0.1, 0.9, 0, 0])
    np.testing.assert_allclose(blend([1, 0, 0, 0], [0, 1, 0, 0], 0.2), [0.8, 0.2, 0, 0])
