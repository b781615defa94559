"""What a user's environment says for other projects does not decide here, or is refused at the start."""

import argparse
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from sleep_interpreter.data.preparation import trigger_table
from sleep_interpreter.data.preparation.settings import load_settings
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.train.settings import experiment
from sleep_interpreter.utils.core import command_line, config
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
NETWORK = """
from sleep_interpreter import model
network = model.build("N23SISD", members=1, stem={"filters": 8, "dilations": [1], "dense": 8})
import keras, numpy as np
found = network.predict_proba(np.zeros((1, 200, 55)))
c = keras.config
print(c.backend(), c.floatx(), c.image_data_format(), c.epsilon(), found.dtype)
"""


def run(code, home=None, cwd=ROOT, **variables):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    if home is not None:
        environment["HOME"] = str(home)
    environment.pop("TF_NUM_INTRAOP_THREADS", None) if "TF_NUM_INTRAOP_THREADS" not in variables else None
    command = [sys.executable, "-c", code] if isinstance(code, str) else [sys.executable, *code]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, timeout=300, check=False)


def keras_home(folder, **content):
    (folder / ".keras").mkdir()
    (folder / ".keras" / "keras.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"KERAS_BACKEND": "torch"}, marks=pytest.mark.slow),
        pytest.param(
            {"KERAS_BACKEND": "", "KERAS_HOME": "", "TF_NUM_INTRAOP_THREADS": "", "TF_CPP_MIN_LOG_LEVEL": ""},
            marks=pytest.mark.slow,
        ),
        {"json": {"floatx": "float16", "image_data_format": "channels_first", "backend": "jax", "epsilon": 0.1}},
    ],
    ids=["backend", "empty", "keras.json"],
)
def test_keras_is_what_the_networks_need(wrong, tmp_path):
    home = keras_home(tmp_path, **wrong["json"]) if "json" in wrong else tmp_path
    variables = {key: value for key, value in wrong.items() if key != "json"}
    done = run(NETWORK, home, cwd=tmp_path, **variables)
    assert done.stdout.decode().split() == ["tensorflow", "float32", "channels_last", "1e-07", "float32"], done.stderr
    assert not (tmp_path / "keras.json").exists()


def test_keras_makes_no_folder_called_tilde_for_a_user_without_a_home(tmp_path):
    code = "import os, pwd\ndef nobody(*_):\n    raise KeyError('uid not found')\n"
    code += "pwd.getpwuid = nobody\nos.environ.pop('HOME', None)\nos.environ.pop('KERAS_HOME', None)\n"
    code += "from sleep_interpreter.utils.core.tensorflow_import import import_tensorflow\nimport_tensorflow()"
    done = run(code, cwd=tmp_path, TMPDIR=str(tmp_path))
    assert done.returncode == 0 and not (tmp_path / "~").exists(), done.stderr


def test_a_keras_that_is_in_use_with_another_backend_is_refused():
    code = "import sys, types\nsys.modules['keras'] = k = types.ModuleType('keras')\n"
    code += "k.config = types.SimpleNamespace(backend=lambda: 'torch')\n" + NETWORK
    done = run(code)
    assert b"Keras is in use with torch here" in done.stderr and b"import sleep_interpreter first" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", ""], "argument --data: is empty; is a variable not set?"),
        (["--results="], "argument --results: is empty"),
        (["--checkpoint", ""], "argument --checkpoint: is empty"),
        (["--set", ""], "argument --set: is empty"),
        (
            ["--data", os.fsdecode(b"/tmp/st\xfcdie")],
            "is no UTF-8 text, and could not be written into a result: rename it",
        ),
        (["--folder", os.fsdecode(b"r\xe9sultats")], "is no UTF-8 text"),
        (["--folder", ""], "argument --folder: is empty"),
    ],
)
def test_words_that_cannot_be_meant_are_refused_at_the_start(words, said, capsys):
    parser = command_line.experiment_parser("", checkpoint=True)
    parser.add_argument("--folder", type=Path)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words)
    assert ended.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("test/N23SIMD.py", ["--results", "a file"]),
        ("train/N23SISD.py", ["--results", "a file/below"]),
        ("data/check.py", [".", "--csv", "a file/x.csv"]),
        ("data/check.py", [".", "--csv", "a folder"]),
        ("data/simulate.py", ["--out", "a file/set"]),
        ("data/prepare.py", ["--out", "a file"]),
        ("test/compare.py", ["one", "two", "--results", "a file"]),
        ("test/reactivation.py", ["--results", "a file"]),
        ("lasso_glm/lasso_glm_image2image.py", ["--results", "a file"]),
        ("test/N23SIMD.py", ["--results", "gone/there"]),
    ],
)
def test_a_place_that_nothing_can_be_written_to_is_refused_at_the_start(script, words, tmp_path, monkeypatch, capsys):
    (tmp_path / "a file").touch()
    (tmp_path / "a folder").mkdir()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / script))["main"](words)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and f"argument {words[-2]}" in said
    assert "name a f" in said or "name another place" in said


def test_a_place_that_can_be_made_is_right(tmp_path):
    assert command_line.out_folder(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert command_line.out_folder(str(tmp_path)) == tmp_path and not list(tmp_path.iterdir())
    assert command_line.out_file(str(tmp_path / "c.csv")) == tmp_path / "c.csv"


def test_a_working_folder_that_is_no_utf8_is_refused(tmp_path):
    folder = os.fsencode(tmp_path) + b"/st\xfcdie"
    os.mkdir(folder)  # noqa: PTH102  # its name is no text
    done = run([str(ROOT / "data" / "check.py"), "x"], cwd=folder)
    assert done.returncode == 2 and b"the working folder" in done.stderr and b"no UTF-8" in done.stderr


@pytest.mark.parametrize("name", command_line._NUMBERS)
@pytest.mark.parametrize("value", ["two", "-1", "1.5", "", "٣", "0", "9" * 9])
def test_a_number_that_is_none_is_refused(name, value, monkeypatch, capsys):
    monkeypatch.setenv(name, value)
    lowest = command_line._NUMBERS[name]
    right = value == "" or (value == "0" and lowest == 0)
    assert command_line.run(lambda _: 0) == (0 if right else 2)
    assert right or f"{name} is {value!r}, no whole number from {lowest} up" in capsys.readouterr().err
    assert os.environ.get(name) in (None, value) and (value or name not in os.environ)


def test_a_number_for_each_level_of_threads_is_right(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert command_line.run(lambda _: 0) == 0


BAR = "import sys\nfrom sleep_interpreter.utils.core import command_line\ndef main(_):\n"
BAR += (
    "    for _ in command_line.progress(3, 'trial', 'a bar', iterable=range(3)): pass\nsys.exit(command_line.run(main))"
)


@pytest.mark.parametrize("wish", ["MININTERVAL=abc", "NCOLS=wide", "BAR_FORMAT={x", "TOTAL=nine", "UNIT_DIVISOR=-"])
def test_bars_are_ours_whatever_tqdm_is_told(wish):
    name, _, value = wish.partition("=")
    done = run(BAR, **{f"TQDM_{name}": value})
    assert done.returncode == 0 and b"a bar: 100%" in done.stderr and b"Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("script", ["train/N23SIMD.py", "data/check.py", "realtime/Main_Decode.py", "test/compare.py"])
def test_every_script_starts_whatever_tqdm_is_told(script):
    done = run([str(ROOT / script), "--help"], TQDM_MININTERVAL="abc")
    assert done.returncode == 0, done.stderr


def test_commands_draw_and_log_whatever_other_programs_want():
    code = "import sys\nfrom sleep_interpreter.utils.core import command_line\ndef main(_):\n    import matplotlib, mne"
    code += "\n    print(matplotlib.get_backend())\nsys.exit(command_line.run(main))"
    done = run(code, MPLBACKEND="none of them", MNE_LOGGING_LEVEL="loud")
    assert (done.returncode, done.stdout.decode().split()) == (0, ["agg"]), done.stderr


FIGURES = """
import sys
from pathlib import Path
import numpy as np
from sleep_interpreter.utils.plots import session, style
with style.column_figure(Path("a.png"), "A figure", 2.4) as (figure, axes):
    axes.plot([1.0, -2.0])
    axes.set(xlabel="Time (s)", ylabel="x_y")
Path("b.svg").write_text(session.intervals(np.array([3.0, 4.0])))
"""
WISHES = "text.usetex: True\nfont.size: 31\nlines.linewidth: 9\nsavefig.dpi: 20\nsavefig.format: svg\naxes.grid: True\n"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    assert run(FIGURES, folder, folder).returncode == 0
    return [(folder / name).read_bytes() for name in ("a.png", "b.svg")]


@pytest.mark.parametrize(
    "place", ["matplotlibrc", "elsewhere/matplotlibrc", ".config/matplotlib/matplotlibrc", "mpl/x"]
)
def test_figures_are_ours_whatever_matplotlibrc_says(place, drawn, tmp_path):
    """In the working folder, where MATPLOTLIBRC says (a folder or a file), and in the user's home."""
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text(WISHES)
    named = {"elsewhere/matplotlibrc": "elsewhere", "mpl/x": "mpl/x"}.get(place)
    done = run(FIGURES, tmp_path, tmp_path, **({} if named is None else {"MATPLOTLIBRC": str(tmp_path / named)}))
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / name).read_bytes() for name in ("a.png", "b.svg")] == drawn


@pytest.mark.parametrize(
    "place", ["matplotlibrc", "elsewhere/matplotlibrc", ".config/matplotlib/matplotlibrc", "mpl/x"]
)
def test_a_matplotlibrc_that_nobody_can_read_is_refused_at_the_start(place, tmp_path, monkeypatch, capsys):
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"font.family: Stra\xdfe")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setenv("MATPLOTLIBRC", {"elsewhere/matplotlibrc": "elsewhere", "mpl/x": "mpl/x"}.get(place, ""))
    assert command_line.run(lambda _: 0) == 2
    assert f"{place}: matplotlib's settings are no UTF-8 text" in capsys.readouterr().err


def test_home_is_the_users_home_wherever_it_stands(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = command_line.experiment_parser("")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args(["--data=~/study", "--folder=~/own", "--results=not~/here"])
    assert (args.data, args.folder, args.results) == (f"{tmp_path}/study", tmp_path / "own", "not~/here")
    args = parser.parse_args(["--set", "data.root=~/study"], argparse.Namespace(mode=None))
    assert experiment.read("N23SISD", args).data.root == str(tmp_path / "study")


def test_a_home_that_nobody_knows_is_refused(tmp_path):
    for read in (
        lambda: config.load(SessionSettings, "realtime", overrides=["decoder.checkpoint=~nosuchuser/a.npz"]),
        lambda: load_settings(None, ["card=~nosuchuser/card.yaml"]),
        lambda: experiment.read(
            "N23SISD", argparse.Namespace(config=None, overrides=["data.root=~nosuchuser/s"], quick=1)
        ),
        lambda: trigger_table.read("~nosuchuser/t.csv"),
    ):
        with pytest.raises(UserError, match="the home that ~ stands for is not known here; give the whole path"):
            read()


def test_home_in_settings_is_the_users_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "card.yaml").write_text((ROOT / "params" / "published_card.yaml").read_text())
    words = ["decoder.checkpoint=~/a.npz", "staging.checkpoint=~/b.npz", "audio.folder=~/sounds", "card=~/card.yaml"]
    session = config.load(SessionSettings, "realtime", overrides=words)
    found = session.decoder.checkpoint, session.staging.checkpoint, session.audio.folder, session.card
    assert found == tuple(str(tmp_path / name) for name in ("a.npz", "b.npz", "sounds", "card.yaml"))
    assert load_settings(None, ["card=~/card.yaml"]).card == published()
    with pytest.raises(UserError, match=r"decoder.checkpoint.*is empty; null means none"):
        config.load(SessionSettings, "realtime", overrides=['decoder.checkpoint=""'])
