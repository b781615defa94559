"""The same work on a real Dask cluster, one of whose two workers is killed while it works."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from lasso_data import same, write_cohort

from sleep_interpreter.utils.core.paths import ROOT

SCRIPT = "lasso_glm/lasso_glm_image2image.py"
FAST = ("--set", "statistics.permutations=200")


def wait(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture
def cluster(tmp_path):
    """Return the address of a scheduler and its two workers, processes of their own."""
    file = tmp_path / "scheduler.json"
    places = ["--host", "127.0.0.1", "--no-dashboard"]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = os.environ | threads | {"PYTHONPATH": str(ROOT)}

    def start(*words):
        command = [sys.executable, "-m", "dask", *words]
        with (tmp_path / f"{len(running)}.log").open("w") as log:
            running.append(subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log))
        return running[-1]

    running = []
    start("scheduler", *places, "--port", "0", "--scheduler-file", str(file))
    wait(lambda: file.exists() and file.stat().st_size)
    address = json.loads(file.read_text())["address"]
    workers = [start("worker", address, *places, "--no-nanny", "--nthreads", "1") for _ in range(2)]
    yield address, workers
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(cluster, call_script, tmp_path):
    address, workers = cluster
    data = write_cohort(tmp_path / "data", subjects=5, awake=4, asleep=1)
    common = ["--data", str(data), *FAST]
    command = [sys.executable, str(ROOT / SCRIPT), *common, "--results", str(tmp_path / "dask")]
    command += ["--backend", "dask", "--scheduler", address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    folder = tmp_path / "dask" / "lasso_image2image"
    wait(lambda: any(folder.glob("subjects/subject_*.npz")) or process.poll() is not None)
    workers[0].send_signal(signal.SIGKILL)
    done = len(list(folder.glob("subjects/subject_*.npz")))
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert 1 <= done < 5, "the worker was killed while there was work left"
    assert workers[0].wait() == -signal.SIGKILL and workers[1].poll() is None
    assert call_script(SCRIPT, *common, "--results", tmp_path / "here")[0] == 0
    same(tmp_path / "here" / "lasso_image2image", folder)


def test_a_scheduler_that_does_not_answer_is_named(call_script, tmp_path, monkeypatch):
    from sleep_interpreter.utils.core import parallel as workers

    monkeypatch.setattr(workers, "CONNECT_SECONDS", 0.5)
    data = write_cohort(tmp_path / "data", subjects=1, awake=1, asleep=1)
    arguments = ["--data", data, "--results", tmp_path / "results", "--backend", "dask"]
    code, error = call_script(SCRIPT, *arguments)
    assert code == 2 and "--scheduler ADDRESS" in error
    code, error = call_script(SCRIPT, *arguments, "--scheduler", "tcp://127.0.0.1:9")
    assert code == 2 and "tcp://127.0.0.1:9: no Dask scheduler answers" in error
