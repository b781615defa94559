"""Matrix products on one thread, so that their last bits do not depend on the machine's number of cores."""

from functools import cache, wraps


def on_one_thread(function):
    """Return `function` with its matrix products on one thread: sums on several differ in their last bits.

    NumPy's library has one number of threads a process; it is what it was before when the function ends.
    """

    @wraps(function)
    def wrapped(*args, **kwargs):
        with _controller().limit(limits=1):
            return function(*args, **kwargs)

    return wrapped


@cache
def _controller():
    """Look for the libraries once: that takes 5 ms, setting their number of threads 0.03 ms."""
    import numpy  # noqa: F401  its library must be there to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
