"""Settings of the Lasso GLMs: published values, windows that fit a trial, refusals that name the key."""

import pytest

from sleep_interpreter.lasso_glm.engine import run as lasso_run
from sleep_interpreter.lasso_glm.engine import settings as lasso_settings
from sleep_interpreter.lasso_glm.engine.plans import PLANS
from sleep_interpreter.lasso_glm.engine.settings import LassoSettings
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError


def load(*overrides):
    return config.load(LassoSettings, "lasso_glm", overrides=overrides)


def test_published_values():
    settings = load().for_card(published())
    assert settings.glm == {"l1": 0.005, "l2": 0.0, "scale": "own", "percentile": 95}
    assert settings.folds == 5 and settings.windows.samples(published()) == {"step": 10, "count": 13}
    assert settings.windows.model_dump() == {"seconds": 0.8, "step": 0.1, "count": 13}
    assert load("scale=none").glm["scale"] is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("windows.count=14", r"windows.*last window ends after 2.1 s"),
        ("windows.step=0.105", r"windows.*0.105 s is no whole number of samples"),
        ("windows.seconds=0.5", r"windows.*awake trials last 0.8 s"),
        ("penalty.l1=0", r"penalty.l1 = 0"),
        ("penalty.lambda=0.005", r"unknown key 'penalty.lambda'"),
        ("scale=test", r"scale = 'test'"),
        ("folds=2", r"folds = 2"),
    ],
)
def test_refusals(override, message):
    with pytest.raises(UserError, match=message):
        load(override).for_card(published(), cut=True)


def test_times_count_from_onset_and_cue():
    assert lasso_settings.seconds("image", 80, published())[:2] == [0.0, 0.01]
    assert (
        lasso_settings.seconds("REM", 200, published())[20] == 0.0
        and lasso_settings.seconds("N2N3", 200, published())[-1] == 1.79
    )


def test_every_experiment_has_its_script():
    scripts = {path.stem for path in (config.PARAMS.parent / "lasso_glm").glob("*.py")}
    assert scripts == {f"lasso_glm_{name}" for name in PLANS}
    assert len(scripts) == 7


def test_a_corrected_label_in_the_middle_of_a_file_is_noticed(tmp_path):
    """Labels are one-hot arrays: the corrected file is as long as before, and its ends are the same."""
    file = tmp_path / "Whole_data.pickle"
    file.write_bytes(b"a" * 400_000)
    plan, settings = next(iter(PLANS.values())), load().for_card(published())

    def key():
        return lasso_run._job(plan, settings, "subject_0", file, tmp_path, False, published())["key"]

    before = key()
    assert key() == before
    file.write_bytes(b"a" * 200_000 + b"b" + b"a" * 199_999)
    assert key() != before
