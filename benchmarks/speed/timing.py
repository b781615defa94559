"""Timing for `make bench`."""

import time


def best_seconds(call, repeats=5):
    """Return the shortest of several timings of `call` after one call that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
