"""Hashing of data: bytes a second beside Python's own `file_digest`, and how long a second look takes.

The files are sparse and as many as the published cohort has: 135 subjects of four files each. So no disk is measured;
one that reads more slowly than this sets the time.
"""

import hashlib
import os
import tempfile
import time
from pathlib import Path
from unittest import mock

SUBJECTS, FILES_EACH, COHORT_BYTES = 135, 4, 200e9
BYTES_EACH = 4 * 2**20


def measure():
    """Return bytes/s of `digests` and of `file_digest`, and s of the second look."""
    from sleep_interpreter.utils.core import file_hashes

    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"subject_{k}" for k in range(SUBJECTS * FILES_EACH)]
        for file in files:
            with file.open("wb") as handle:
                handle.truncate(BYTES_EACH)
        time.sleep(file_hashes.SETTLED + 0.5)  # hashes of files that have just changed are not kept
        with mock.patch.dict(os.environ, {file_hashes.CACHE: str(Path(folder) / "cache")}):
            alone = time.perf_counter()
            for file in files:
                with file.open("rb", buffering=0) as handle:
                    hashlib.file_digest(handle, "sha256")
            start = time.perf_counter()
            first = file_hashes.digests(files)
            middle = time.perf_counter()
            second = file_hashes.digests(files)
            end = time.perf_counter()
    assert first == second
    total = len(files) * BYTES_EACH
    return {"rate": total / (middle - start), "alone": total / (start - alone), "second_seconds": end - middle}


def rows(table, found):
    """Add the rows to a `benchmarks.speed.bench.Table`, from what `measure` returned."""
    table.add("hash of data, against Python's file_digest", found["rate"] / 1e6, "MB/s", found["alone"] / 1e6, 0.8)
    table.add("hash of 135 subjects, 200 GB, once", COHORT_BYTES / found["rate"] / 60, "min", None)
    table.add("the same unchanged, 540 files, second look", found["second_seconds"], "s", None)
