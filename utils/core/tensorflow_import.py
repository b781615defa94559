"""Import TensorFlow without the notices that its libraries write past every Python logger, and Keras as we need it.

What a user's ~/.keras/keras.json or environment says of backend, number type and order of axes is meant for other
projects; unless Keras is in use already, it does not count here.
"""

import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from sleep_interpreter.utils.core.errors import UserError

_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # memory of a GPU as needed, not all of it at once
    "TF_NUM_INTRAOP_THREADS": str(max(1, (os.cpu_count() or 1) // 2)),
}


def import_tensorflow() -> ModuleType:
    """Import TensorFlow and return it; what its libraries print while loading is shown only if that fails.

    `UserError`: Keras is in use with another backend.
    """
    ours = "keras" not in sys.modules
    if not ours and (backend := sys.modules["keras"].config.backend()) != "tensorflow":
        raise UserError(
            f"Keras is in use with {backend} here, this project's networks need TensorFlow: import sleep_interpreter "
            "first, or set KERAS_BACKEND=tensorflow"
        )
    if "tensorflow" in sys.modules and not ours:
        return sys.modules["tensorflow"]
    for name, value in _ENVIRONMENT.items():
        if not os.environ.get(name):  # an empty value is that of a variable that somebody meant to set
            os.environ[name] = value
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if not os.environ.get("KERAS_HOME"):
        os.environ.pop("KERAS_HOME", None)
        if os.path.expanduser("~") == "~":  # noqa: PTH111  # nobody's home: Keras would make a folder called "~"
            os.environ["KERAS_HOME"] = str(Path(tempfile.gettempdir()) / "keras")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as hidden:
        stderr = os.dup(2)
        os.dup2(hidden.fileno(), 2)
        try:
            import keras  # lazy: start-up
            import tensorflow  # noqa: F401  # lazy: start-up

            if ours:
                keras.config.set_floatx("float32")
                keras.config.set_image_data_format("channels_last")
                keras.config.set_epsilon(1e-7)
                keras.config.set_dtype_policy("float32")
        except BaseException:
            hidden.seek(0)
            os.write(stderr, hidden.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    return sys.modules["tensorflow"]
