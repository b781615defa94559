"""Shared by all tests: the project on the path, quiet TensorFlow, one way to run a script."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MNE_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))  # as utils.quiet

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def run_script():
    """Return a function that runs a script of the project as a user would, from any folder."""

    def run(script, *arguments, cwd=ROOT, timeout=300, **more):
        command = [sys.executable, str(ROOT / script), *map(str, arguments)]
        return subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False, **more
        )

    return run


@pytest.fixture
def call_script(capsys):
    """Return a function that calls a script in this process (one import of TensorFlow for all calls)."""
    from utils import cli

    def call(script, *arguments):
        main = runpy.run_path(str(ROOT / script))["main"]
        code = cli.run(main, [str(a) for a in arguments])
        return code, capsys.readouterr().err

    return call
