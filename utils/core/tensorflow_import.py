"""Import TensorFlow without the notices that its libraries write past every Python logger."""

import os
import sys
import tempfile
from types import ModuleType


def import_tensorflow() -> ModuleType:
    """Import TensorFlow and return it; what its libraries print while loading is shown only if that fails."""
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # memory of a GPU as needed, not all of it at once
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))
    sys.stderr.flush()
    with tempfile.TemporaryFile() as hidden:
        stderr = os.dup(2)
        os.dup2(hidden.fileno(), 2)
        try:
            import tensorflow  # noqa: F401  # lazy: start-up
        except BaseException:
            hidden.seek(0)
            os.write(stderr, hidden.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    return sys.modules["tensorflow"]
