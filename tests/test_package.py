"""The package as others use it: built, installed and imported from a folder with its own utils/ and data/."""

import inspect
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import sleep_interpreter
from sleep_interpreter import api

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", "__pycache__", "external", "simulated", "results", "tests", "benchmarks", "docs"
)

USE = """
import sys
import sleep_interpreter as si
assert not {"numpy", "pydantic", "tensorflow"} & set(sys.modules), "the import is instant"
import utils, data
assert utils.OWN == data.OWN == "foreign"
from pathlib import Path

assert si.__version__ and set(si.__all__) <= set(dir(si))
small = {key: 0 for key in ("cohort.rem_trials", "cohort.so_trials", "staging.train_subjects",
                            "staging.test_subjects")}
small |= {"cohort.train_subjects": 1, "recording.stages": [["W", 1.0]]}
out = si.simulate("test", "data/tiny", small)
assert out == Path("data/tiny") and si.network_names()[:2] == ["EEGNet", "N23SIMD"]
trials = si.TrainingTrials(out, awake=False)
assert len(trials) and trials.read(0)["sleep"].shape == (200, 55)
tiny = {"depth": 1, "heads": 1, "ffn": 8}
network = si.build("N23SISD", members=1, d_model=8, head_size=4, features=4, stem={"filters": 4, "dense": 4},
                   sleep_encoder=tiny, image_encoder=tiny, audio_encoder=tiny)
subjects = si.read_test_subjects(out)
probabilities = si.predict(network, subjects[0].sleep)
assert probabilities.shape == (len(subjects[0]), 15)
summary = si.evaluate(network, subjects, "results/mine", {"bootstrap": 100, "permutations": 100})
assert summary["simulated"] is True and summary["provenance"]["git"] is None
from sleep_interpreter.model.checkpoints import checkpoint
checkpoint.save(network, "results/Decoding checkpoint/N2N3_SISD/ensemble.npz", simulated=True)
again = si.load("N23SISD")
assert (si.predict(again, subjects[0].sleep) == probabilities).all()
assert si.summarise(again)["notes"] == {"simulated": True}
try:
    si.prepare("data/prepared", recordings="*.edf")
except si.UserError as error:
    assert "recording" in str(error)
try:
    si.load("N23SIMD")
except si.UserError as error:
    assert "data/Model checkpoint" in str(error)
from sleep_interpreter.utils.core import paths
assert paths.DATA == Path.cwd() / "data" and (paths.PARAMS / "realtime.yaml").is_file()
import sleep_interpreter.realtime.Monitor.app as app
assert (app.STATIC / "uplot" / "uPlot.iife.min.js").is_file()
"""


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_installed_copy_works_in_a_foreign_folder(tmp_path):
    checkout = tmp_path / "checkout"  # building writes into it
    shutil.copytree(ROOT, checkout, symlinks=True, ignore=LEFT_OUT)
    options = "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = sysconfig.get_path("purelib", "venv", {"base": tmp_path / "venv"})
    run(sys.executable, "-m", "pip", "install", *options, "--target", site, checkout)
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    foreign = tmp_path / "foreign"
    for name in ("utils", "data"):
        (foreign / name).mkdir(parents=True)
        (foreign / name / "__init__.py").write_text('OWN = "foreign"\n')
    (foreign / "use.py").write_text(USE)
    run(python, "use.py", cwd=foreign)
    names = {path.relative_to(site).parts[0] for path in Path(site).rglob("*.py")}
    assert names == {"sleep_interpreter"}, "nothing lies beside the package"


def test_public_names_are_where_they_are_said_to_be():
    for name in sleep_interpreter.__all__:
        assert getattr(sleep_interpreter, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        sleep_interpreter.nonsense  # noqa: B018


def test_settings_that_docstrings_give_as_examples_exist():
    from sleep_interpreter.data.preparation.settings import load_settings as preparation
    from sleep_interpreter.data.simulation.settings import load_settings as simulation
    from sleep_interpreter.train.settings.experiment import EvaluateSettings

    def given(function):
        (example,) = re.findall(r"\{\"[\w.]+\": [^{}]+\}", inspect.getdoc(function))
        return json.loads(example)

    simulation("test", api._overrides(given(sleep_interpreter.simulate)))
    preparation(None, api._overrides(given(sleep_interpreter.prepare)))
    assert set(given(sleep_interpreter.evaluate)) <= set(EvaluateSettings.model_fields)
