"""Runs jobs one after the other or in several processes, with the same result and nothing left running."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait

from threadpoolctl import threadpool_limits

from sleep_interpreter.utils.core.errors import UserError


def write_jobs(jobs, out, processes):
    """Write the files of jobs, yielding each job when its files are there.

    Matrix products run on one thread everywhere: sums on several threads differ in their last bits.

    Parameters
    ----------
    jobs : list of sleep_interpreter.data.simulation.jobs.Job
    out : Path
        Folder of the data set.
    processes : int
        1: in this process. More: so many processes, which end with this one however it ends.

    Yields
    ------
    job : sleep_interpreter.data.simulation.jobs.Job
        In the order in which they are finished.
    """
    if processes < 1:
        raise UserError(f"--jobs {processes}: give at least 1")
    processes = min(processes, len(jobs))
    if processes <= 1:
        for job in jobs:
            with threadpool_limits(1):
                job.write(out)
            yield job
        return
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin) as pool:
        try:
            places = {pool.submit(_write, job, out): job for job in jobs}
            for done in as_completed(places):
                done.result()
                yield places[done]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()
            raise


def _begin():
    """Prepare a process: it ends when its parent does, even if that is killed; Ctrl-C is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch():
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write(job, out):
    with threadpool_limits(1):
        job.write(out)
