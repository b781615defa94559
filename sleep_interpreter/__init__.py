"""Sleep Interpreter: reading memory reactivation from sleep EEG.

  import sleep_interpreter as si

  si.simulate("test", "data/simulated/test")
  decoder = si.build("N23SIMD", members=1)                 # a trained one: si.load("N23SIMD"), si.load(FILE)
  subjects = si.read_test_subjects("data/simulated/test")
  probabilities = si.predict(decoder, subjects[0].sleep)   # (B, 200, 55) -> (B, 15)
  summary = si.evaluate(decoder, subjects, "results/mine")

The packages of this project lie beside this folder, as the published layout has them, and are imported by one
name: `sleep_interpreter.utils`, `sleep_interpreter.data`, `sleep_interpreter.model` and so on. In a checkout
they are found there; an installed copy has them inside this folder. (The links in this folder are for type
checkers and editors; Python does not need them.) What `__all__` lists is imported when it is first used.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sleep_interpreter.api import evaluate, prepare, simulate
    from sleep_interpreter.data.formats.test_trials import read_test_subjects
    from sleep_interpreter.data.formats.training_trials import TrainingTrials
    from sleep_interpreter.model.checkpoints.export import export
    from sleep_interpreter.model.registry import build
    from sleep_interpreter.model.registry import names as network_names
    from sleep_interpreter.utils.core.errors import UserError
    from sleep_interpreter.utils.model import load, predict, summarise

__version__ = "0.1.0"
__all__ = [
    "TrainingTrials", "UserError", "__version__", "build", "evaluate", "export", "load", "network_names",
    "predict", "prepare", "read_test_subjects", "simulate", "summarise",
]  # fmt: skip

_PLACES = {
    "TrainingTrials": "data.formats.training_trials:TrainingTrials",
    "UserError": "utils.core.errors:UserError",
    "build": "model.registry:build",
    "evaluate": "api:evaluate",
    "export": "model.checkpoints.export:export",
    "load": "utils.model:load",
    "network_names": "model.registry:names",
    "predict": "utils.model:predict",
    "prepare": "api:prepare",
    "read_test_subjects": "data.formats.test_trials:read_test_subjects",
    "simulate": "api:simulate",
    "summarise": "utils.model:summarise",
}
if missing := [name for name in ("numpy", "pydantic", "threadpoolctl", "tqdm") if find_spec(name) is None]:
    raise ModuleNotFoundError(
        f"{sys.executable} lacks {', '.join(missing)} and perhaps more of what Sleep Interpreter needs; use the "
        "environment that `make setup` makes (. .venv/bin/activate), or install it: pip install ."
    )
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "pyproject.toml").is_file() and (_ROOT / "utils" / "core").is_dir():
    __path__.insert(0, str(_ROOT))


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = resolve_name(f"{__name__}.{_PLACES[name]}")
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
