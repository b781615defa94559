"""Shared by all tests: the project on the path, quiet TensorFlow, one way to run a script."""

import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MNE_LOGGING_LEVEL", "WARNING")
os.environ.setdefault(
    "TF_NUM_INTRAOP_THREADS", str(max(1, (os.cpu_count() or 1) // 2))
)  # as utils.core.tensorflow_import

os.environ.setdefault("SLEEP_INTERPRETER_CACHE", tempfile.mkdtemp(prefix="sleep_interpreter_hashes"))

LONG = ("preparation", "train", "lasso_glm", "realtime", "monitor", "golden", "model", "tests", "simulation")
"""Folders whose files take longest: they are begun first, so that no process is left alone with one."""

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).parent))


def pytest_collection_modifyitems(items):
    """Put the long files first (xdist hands out files in this order)."""
    items.sort(key=lambda item: LONG.index(item.path.parent.name) if item.path.parent.name in LONG else 9)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each file to one process; a folder whose files share a long preparation goes to one as a whole."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            folder = "tests/data/preparation"
            return folder if file.startswith(folder) else file

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def run_script():
    """Return a function that runs a script of the project as a user would, from any folder."""

    def run(script, *arguments, cwd=ROOT, timeout=300, **more):
        command = [sys.executable, str(ROOT / script), *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False, **more)

    return run


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made, but not drawn, and their files are empty: for tests of numbers, most of whose time it takes."""
    from sleep_interpreter.utils.plots import evoked, session, style

    def save(figure, path):
        style.plt.close(figure)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def svg(figure):
        style.plt.close(figure)
        return "<svg></svg>"

    monkeypatch.setattr(style, "save", save)
    for module in (evoked, session):
        monkeypatch.setattr(module, "svg", svg)


@pytest.fixture
def call_script(capsys):
    """Return a function that calls a script in this process (one import of TensorFlow for all calls)."""
    from sleep_interpreter.utils.core import command_line

    def call(script, *arguments):
        main = runpy.run_path(str(ROOT / script))["main"]
        code = command_line.run(main, [str(a) for a in arguments])
        return code, capsys.readouterr().err

    return call
