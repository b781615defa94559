"""The same work on this machine's cores or on a Dask cluster, with results that do not depend on the way.

Sums on several BLAS threads differ in their last bits, so each piece of work is done on one.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import cache, wraps
from multiprocessing.connection import wait
from typing import Any, ParamSpec, TypeVar

from sleep_interpreter.utils.core.errors import UserError

BACKENDS = ("joblib", "dask")
CONNECT_SECONDS = 20
"""How long a Dask scheduler may take to answer."""

Work = Callable[[Any], Any]
P = ParamSpec("P")
R = TypeVar("R")


def on_one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` with its matrix products on one thread, a number that NumPy's library has once a process; it
    is what it was before when the function ends."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with _controller().limit(limits=1):
            return function(*args, **kwargs)

    return wrapped


@cache
def _controller() -> Any:
    """Look for the libraries once: that takes 5 ms, setting their number of threads 0.03 ms."""
    import numpy  # noqa: F401  # lazy: start-up; its library must be there to be found
    from threadpoolctl import ThreadpoolController  # lazy: start-up

    return ThreadpoolController()


def results(
    function: Work, items: Sequence[Any], jobs: int = 1, backend: str = "joblib", scheduler: str | None = None
) -> Iterator[Any]:
    """Yield `function(item)` for every item as it is done, in any order; the function is one of a module, since
    arguments and results travel between processes.

    `jobs` are processes on this machine (1: none but this one); `scheduler` is the address of a running Dask scheduler
    (`backend` "dask"), such as "tcp://10.0.0.1:8786". Its workers need this project's folder as working directory or
    on PYTHONPATH, and see the data under the same path. A worker that dies loses its task to another one; a task that
    killed three is given up. `UserError`: Dask is not installed, nothing answers at the address, jobs below 1.
    """
    if jobs < 1:
        raise UserError(f"--jobs {jobs}: at least 1 process is needed")
    if backend == "dask":
        yield from _on_dask(function, items, scheduler)
    elif jobs == 1:
        for item in items:
            yield single_threaded(function, item)
    else:
        from joblib import Parallel, delayed, parallel_config  # lazy: start-up
        from joblib.externals.loky import get_reusable_executor  # lazy: start-up

        with parallel_config("loky", inner_max_num_threads=1):
            pool = Parallel(n_jobs=min(jobs, max(1, len(items))), return_as="generator_unordered", initializer=_begin)
            found, complete = pool(delayed(single_threaded)(function, item) for item in items), False
            try:
                yield from found
                complete = True
            except BrokenProcessPool as error:
                raise UserError(
                    "a worker process was killed (out of memory?); what is done is kept: give the same command again, "
                    "with fewer --jobs"
                ) from error
            finally:
                if not complete:  # no process is left behind by an error or Ctrl-C
                    get_reusable_executor().shutdown(wait=False, kill_workers=True)


def _begin() -> None:
    """Prepare a process: Ctrl-C is its parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """Let this process end when the one that started it does, even if that is killed; called once, at its begin."""
    parent = multiprocessing.parent_process()

    def watch(pid: int | None, sentinel: int | None) -> None:
        if sentinel is None:  # joblib's processes have none
            while os.getppid() == pid:
                time.sleep(0.5)
        else:
            wait([sentinel])
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, args=(parent.pid, parent.sentinel), daemon=True).start()


def single_threaded(function: Work, item: Any) -> Any:
    """Return `function(item)`, computed with one BLAS thread, of libraries loaded only now too."""
    from threadpoolctl import threadpool_limits  # lazy: start-up

    with threadpool_limits(1):
        return function(item)


def _on_dask(function: Work, items: Sequence[Any], scheduler: str | None) -> Iterator[Any]:
    if scheduler is None:
        raise UserError("--backend dask: name the running scheduler with --scheduler ADDRESS (tcp://host:8786)")
    try:
        from distributed import Client, as_completed  # lazy: optional dependency
    except ImportError:
        raise UserError("--backend dask: Dask is not installed; pip install -e '.[cluster]'") from None
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:  # the last two: of TLS
        raise UserError(f"--scheduler {scheduler}: no Dask scheduler answers ({error})") from None
    with client:
        futures = [client.submit(single_threaded, function, item, pure=False) for item in items]
        for future in as_completed(futures):
            yield future.result()
            future.release()
