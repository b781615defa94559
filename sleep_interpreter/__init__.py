"""Sleep Interpreter: reading memory reactivation from sleep EEG.

  import sleep_interpreter as si

  si.simulate("test", "data/simulated/test")
  decoder = si.train_network("EEGNet", "data/simulated/test", "results", {"train.epochs": 2}, quick=True)
  decoder = si.load("results/Decoding checkpoint/EEGNet")  # what was trained; untrained: si.build("N23SIMD")
  subjects = si.read_test_subjects("data/simulated/test")
  probabilities = si.predict(decoder, subjects[0].sleep)   # (B, 200, 55) -> (B, 15)
  summary = si.evaluate(decoder, subjects, "results/mine")

docs/notebooks shows the rest: data of your own from MNE Epochs, networks of your own, sessions.

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
    from sleep_interpreter.api import evaluate, prepare, replay, simulate, train_network
    from sleep_interpreter.data.formats.test_trials import read_test_subjects
    from sleep_interpreter.data.formats.training_trials import TrainingTrials
    from sleep_interpreter.data.preparation.epochs import from_epochs
    from sleep_interpreter.model.checkpoints.export import export
    from sleep_interpreter.model.registry import build
    from sleep_interpreter.model.registry import names as network_names
    from sleep_interpreter.realtime.Report.session_data import load_session
    from sleep_interpreter.utils.core.data_card import DataCard, Item, card_of
    from sleep_interpreter.utils.core.errors import UserError
    from sleep_interpreter.utils.model import load, predict, summarise

__version__ = "0.1.0"
__all__ = [
    "DataCard", "Item", "TrainingTrials", "UserError", "__version__", "build", "card_of", "evaluate", "export",
    "from_epochs", "load", "load_session", "network_names", "predict", "prepare", "read_test_subjects", "replay",
    "simulate", "summarise", "train_network",
]  # fmt: skip

_PLACES = {
    "DataCard": "utils.core.data_card:DataCard",
    "Item": "utils.core.data_card:Item",
    "TrainingTrials": "data.formats.training_trials:TrainingTrials",
    "UserError": "utils.core.errors:UserError",
    "build": "model.registry:build",
    "card_of": "utils.core.data_card:card_of",
    "evaluate": "api:evaluate",
    "export": "model.checkpoints.export:export",
    "from_epochs": "data.preparation.epochs:from_epochs",
    "load": "utils.model:load",
    "load_session": "realtime.Report.session_data:load_session",
    "network_names": "model.registry:names",
    "predict": "utils.model:predict",
    "prepare": "api:prepare",
    "read_test_subjects": "data.formats.test_trials:read_test_subjects",
    "replay": "api:replay",
    "simulate": "api:simulate",
    "summarise": "utils.model:summarise",
    "train_network": "api:train_network",
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
