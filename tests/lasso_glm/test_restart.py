"""--restart of a Lasso GLM script: what was there stays until all is computed anew."""

import signal

import pytest
import training_runs as runs
from lasso_data import write_cohort

from sleep_interpreter.lasso_glm.engine import run as lasso_runs
from sleep_interpreter.utils.core.errors import UserError

SCRIPT = "lasso_glm/lasso_glm_image2image.py"
FAST = ("--set", "statistics.permutations=200")
OTHER = ("--set", "penalty.l1=0.02")
MODULE = "sleep_interpreter.lasso_glm.engine.run"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"), subjects=3, awake=3, asleep=1, strength=3.0)


@pytest.fixture
def call(call_script, cohort, tmp_path):
    return lambda *words: call_script(SCRIPT, "--data", cohort, "--results", tmp_path, *FAST, *words)


@pytest.fixture
def quick(monkeypatch):
    """Compute nothing; fail at the subjects in the returned set."""
    failing = set()

    def compute(job):
        if job["name"] in failing:
            raise UserError(f"{job['file']}: truncated")
        header = {"subject": job["name"], "key": job["key"], "n": {}, "few": {}, "missing": {}, "remarks": []}
        return job["name"], header | {"simulated": True, "origin": {}}, {}

    monkeypatch.setattr(lasso_runs, "compute", compute)
    return failing


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def l1_of(folder):
    """Return {subject: penalty that its file was computed with}."""
    own = map(lasso_runs.read_subject_file, sorted((folder / "subjects").glob("*.npz")))
    return {result.name: result.header["key"]["settings"]["penalty"]["l1"] for result in own}


def test_a_failing_restart_changes_nothing_and_is_gone_on_with(quick, call, tmp_path, caplog):
    folder = tmp_path / "lasso_image2image"
    assert call("--part", "1/1")[0] == 0
    before = files(folder)
    quick.add("subject_1")
    code, error = call("--restart", *OTHER)
    assert code == 2 and "truncated" in error
    assert files(folder / "subjects") == {name.split("/")[1]: content for name, content in before.items()}
    quick.clear()
    with caplog.at_level("INFO"):
        assert call("--part", "1/1")[0] == 0  # the first command has all it had
    assert "3 of 3 subjects are there already" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        assert call("--part", "1/1", *OTHER)[0] == 0
    assert "going on with the --restart" in caplog.text and "1 of 3 subjects are there already" in caplog.text
    assert set(l1_of(folder).values()) == {0.02} and len(l1_of(folder)) == 3
    assert sorted(path.name for path in folder.iterdir()) == ["subjects"]


def test_parts_take_effect_together(quick, call, tmp_path):
    folder = tmp_path / "lasso_image2image"
    assert call("--part", "1/1")[0] == 0
    old = l1_of(folder)
    assert call("--part", "2/2", "--restart", *OTHER)[0] == 0 and l1_of(folder) == old
    assert call("--part", "1/2", "--restart", *OTHER)[0] == 0 and set(l1_of(folder).values()) == {0.02}


def test_a_report_that_fails_leaves_the_earlier_results(quick, call, tmp_path):
    folder = tmp_path / "lasso_image2image"
    assert call("--part", "1/1")[0] == 0
    old = l1_of(folder)
    code, error = call("--restart", *OTHER)
    assert code == 2 and "none of the 3 subjects" in error and l1_of(folder) == old


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_kill_while_folders_are_exchanged_loses_nothing(quick, call, tmp_path, monkeypatch, nth):
    folder, path_type = tmp_path / "lasso_image2image", type(tmp_path)
    assert call("--part", "1/1")[0] == 0
    assert call("--part", "1/2", "--restart", *OTHER)[0] == 0
    calls, replace = [], path_type.replace

    def dying(self, target):
        if self.is_dir():
            calls.append(self)
            if len(calls) == nth:
                raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(path_type, "replace", dying)
        assert call("--part", "2/2", "--restart", *OTHER)[0] == (130 if nth < 3 else 0)
    assert call("--part", "1/1", *OTHER)[0] == 0
    assert set(l1_of(folder).values()) == {0.02} and len(l1_of(folder)) == 3
    assert sorted(path.name for path in folder.iterdir()) == ["subjects"]


def test_data_that_change_while_they_are_computed_give_no_result(call_script, tmp_path, monkeypatch):
    data = write_cohort(tmp_path / "data", subjects=2, awake=3, asleep=1)
    read = lasso_runs.read_subject

    def read_and_change(file, *words):
        found = read(file, *words)
        if "subject_test_0" in str(file):
            write_cohort(data, subjects=2, awake=3, asleep=1, seed=1)
        return found

    monkeypatch.setattr(lasso_runs, "read_subject", read_and_change)
    words = ["--data", data, "--results", tmp_path, *FAST, "--part", "1/1"]
    code, error = call_script(SCRIPT, *words)
    assert code == 2 and "Whole_data.pickle: has changed since the run began" in error
    assert [path.stem for path in (tmp_path / "lasso_image2image" / "subjects").iterdir()] == ["subject_0"]


@pytest.mark.usefixtures("undrawn")
def test_figures_of_an_earlier_report_go(call, tmp_path):
    folder = tmp_path / "lasso_image2image"
    folder.mkdir()
    stale = ("map_image_REM.png", "generalisation_image_REM.png", "patterns_audio.png")
    for name in (*stale, "my notes.png"):
        (folder / name).touch()
    code, error = call()
    assert code == 0, error
    assert (folder / "accuracy.png").exists() and (folder / "my notes.png").exists()
    assert not [name for name in stale if (folder / name).exists()]


@pytest.mark.slow
def test_a_killed_restart_leaves_the_earlier_results(call, cohort, tmp_path):
    folder = tmp_path / "lasso_image2image"
    code, error = call()
    assert code == 0, error
    before = files(folder)
    words = ["--data", cohort, "--results", tmp_path, *FAST, "--restart", *OTHER, "--jobs", "2"]
    runs.kill_at((MODULE, "write_subject"), SCRIPT, *words, nth=2, number=signal.SIGKILL)
    assert {name: content for name, content in files(folder).items() if not name.startswith("restarted")} == before
    code, error = call(*OTHER)
    assert code == 0, error
    assert set(l1_of(folder).values()) == {0.02} and not (folder / "restarted").exists()
