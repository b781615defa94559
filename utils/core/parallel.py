"""The same work on this machine's cores or on a Dask cluster: one task an item, in any order."""

from contextlib import contextmanager

from sleep_interpreter.utils.core.errors import UserError

BACKENDS = ("joblib", "dask")
CONNECT_SECONDS = 20
"""How long a Dask scheduler may take to answer."""


def results(function, items, jobs=1, backend="joblib", scheduler=None):
    """Yield `function(item)` for every item as it is done.

    Each call has one BLAS thread, wherever it runs, so its result does not depend on jobs or backend.

    Parameters
    ----------
    function : callable
        Of a module of the project; arguments and result travel between processes.
    items : list
    jobs : int
        Processes on this machine; 1: none but this one.
    backend : "joblib" | "dask"
    scheduler : str | None
        Address of a running Dask scheduler, such as "tcp://10.0.0.1:8786". Its workers need this project's
        folder as working directory or on PYTHONPATH, and see the data under the same path. A worker that dies
        loses its task to another one; a task that killed three workers is given up.

    Raises
    ------
    UserError
        Dask is not installed, or nothing answers at the address; jobs below 1.
    """
    if jobs < 1:
        raise UserError(f"--jobs {jobs}: at least 1 process is needed")
    if backend == "dask":
        yield from _on_dask(function, items, scheduler)
    elif jobs == 1:
        for item in items:
            yield single_threaded(function, item)
    else:
        from joblib import Parallel, delayed, parallel_config

        with parallel_config("loky", inner_max_num_threads=1):
            pool = Parallel(n_jobs=min(jobs, max(1, len(items))), return_as="generator_unordered")
            yield from pool(delayed(single_threaded)(function, item) for item in items)


def single_threaded(function, item):
    """Return `function(item)`, computed with one BLAS thread."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return function(item)


def _on_dask(function, items, scheduler):
    if scheduler is None:
        raise UserError(
            "--backend dask: name the running scheduler with --scheduler ADDRESS (tcp://host:8786)"
        )
    try:
        from distributed import as_completed
    except ImportError:
        raise UserError("--backend dask: Dask is not installed; pip install -e '.[cluster]'") from None
    with _client(scheduler) as client:
        futures = [client.submit(single_threaded, function, item, pure=False) for item in items]
        for future in as_completed(futures):
            yield future.result()
            future.release()


@contextmanager
def _client(scheduler):
    from distributed import Client

    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        raise UserError(f"--scheduler {scheduler}: no Dask scheduler answers ({error})") from None
    with client:
        yield client
