"""The same work on a real Dask cluster, one of whose two workers is killed while it works."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import dask
import pytest
from lasso_data import same, write_cohort

from sleep_interpreter.utils.core.paths import ROOT

SCRIPT = "lasso_glm/lasso_glm_image2image.py"
FAST = ("--set", "statistics.permutations=200")


def wait(condition, seconds=300):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@contextmanager
def running_cluster(folder, environment, count, *words):
    """Give the address of a scheduler and its workers, processes of their own."""
    file = folder / "scheduler.json"
    places = ["--host", "127.0.0.1", "--no-dashboard"]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**environment, **threads, "PYTHONPATH": str(ROOT)}

    def start(*words):
        command = [sys.executable, "-m", "dask", *words]
        with (folder / f"{len(running)}.log").open("w") as log:
            running.append(subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log))
        return running[-1]

    running = []
    try:
        start("scheduler", *places, *words, "--port", "0", "--scheduler-file", str(file))
        wait(lambda: file.exists() and file.stat().st_size)
        address = json.loads(file.read_text())["address"]
        yield address, [start("worker", address, *places, "--no-nanny", "--nthreads", "1") for _ in range(count)]
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path):
    """Return the address of a scheduler and its two workers."""
    with running_cluster(tmp_path, os.environ, 2) as found:
        yield found


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
    code, error = call_script(SCRIPT, *arguments, "--scheduler", "tls://127.0.0.1:9")
    assert code == 2 and "tls://127.0.0.1:9: no Dask scheduler answers (TLS expects" in error
    with dask.config.set({"distributed.comm.require-encryption": True}):
        code, error = call_script(SCRIPT, *arguments, "--scheduler", "tcp://127.0.0.1:9")
    assert code == 2 and "no Dask scheduler answers (encryption required by Dask configuration" in error


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_cluster_with_certificates_answers_nobody_without(tmp_path):
    """Scheduler, worker and script have what the docs' lines make and say."""
    (block,) = re.findall(
        r"```\n(openssl .*?)dask scheduler", (ROOT / "docs/lasso.md").read_text(encoding="utf-8"), re.S
    )
    done = subprocess.run(["/bin/sh", "-ec", f"{block}\nenv -0"], cwd=tmp_path, capture_output=True, check=True)
    encrypted = dict(line.split("=", 1) for line in done.stdout.decode().split("\0") if line)
    work = "import sys\nfrom sleep_interpreter.utils.core import parallel\n"
    work += "print(sorted(parallel.results(abs, [1, -2, 3], backend='dask', scheduler=sys.argv[1])))"
    with running_cluster(tmp_path, encrypted, 1, "--protocol", "tls") as (address, _):
        assert address.startswith("tls://")
        command = [sys.executable, "-c", work, address]
        for environment, said in ((encrypted, "[1, 2, 3]"), (dict(os.environ), "no Dask scheduler answers")):
            environment = {**environment, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
            assert said in done.stdout + done.stderr
