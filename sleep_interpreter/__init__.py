"""Sleep Interpreter: reading memory reactivation from sleep EEG.

The packages of this project lie beside this folder, as the published layout has them, and are imported by one
name: `sleep_interpreter.utils`, `sleep_interpreter.data`, `sleep_interpreter.model` and so on. In a checkout
they are found there; an installed copy has them inside this folder. (The links in this folder are for type
checkers and editors; Python does not need them.)
"""

from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "pyproject.toml").is_file() and (_ROOT / "utils" / "core").is_dir():
    __path__ = [str(_ROOT)]
