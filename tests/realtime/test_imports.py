"""Everything imports where the packages of sound, ports and streams are not installed."""

import subprocess
import sys

from sleep_interpreter.utils.core.paths import ROOT

_CODE = """
import importlib, sys
from pathlib import Path

ABSENT = {"sounddevice", "soundfile", "serial", "parallel", "mne_lsl", "brainflow", "fastapi", "uvicorn",
          "winreg", "msvcrt", "termios", "fcntl", "tensorflow"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
for name in list(sys.modules):
    if name.partition(".")[0] in {"termios", "fcntl"}:
        del sys.modules[name]
for path in sorted(Path("realtime").rglob("*.py")):
    name = ".".join(["sleep_interpreter", *path.with_suffix("").parts]).removesuffix(".__init__")
    # the server itself, imported where it is started
    if name.rpartition(".")[0] != "sleep_interpreter.realtime.Monitor" or path.stem not in ("app", "connection"):
        importlib.import_module(name)
print("all")
"""


def test_every_module_imports_without_them():
    done = subprocess.run([sys.executable, "-c", _CODE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "all\n", done.stderr
