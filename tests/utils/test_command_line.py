"""How commands end and speak: exit codes, one line an error, paths as a user would type them."""

import errno
import logging

import pytest

from sleep_interpreter.utils.core import command_line
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path, shorten_paths


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a sibling whose name begins like its own."""
    for name in ("lab", "lab two"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "lab")
    return tmp_path / "lab"


def test_paths_in_messages_are_what_shown_gives(folder):
    inside, above = folder / "a b" / "x.yaml", folder.parent / "z.npz"
    beside = folder.parent / "lab two" / "y"
    for path in (inside, folder, beside, above, folder.parent, folder.parents[1] / "w"):
        for text in ("{}: not found", "no '{}'", "written: {}", "'{}'; or ({}), {}"):
            assert shorten_paths(text.replace("{}", str(path))) == text.replace("{}", display_path(path)), path
    assert shorten_paths(f"{inside} and {above}") == f"{display_path(inside)} and {display_path(above)}"
    for other in (f"file://{inside}", "/etc/passwd", "a/b", "nothing"):
        assert shorten_paths(other) == other


def test_errors_logs_and_last_words_show_short_paths(folder, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def main(argv):
        logging.getLogger("test").info("reading %s", folder / "in.edf")
        command_line.say(f"written: {folder / 'out'}")
        raise UserError(f"{folder / 'settings.yaml'}: unknown key\n'x'")

    assert command_line.run(main) == 2
    said = capsys.readouterr()
    assert said.out == "written: out\n"
    assert said.err == "reading in.edf\nerror: settings.yaml: unknown key 'x'\n"


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (None, 0, ""),
        (OSError(errno.ENOSPC, "No space left", "/x/y"), 2, "error: /x/y: No space left ("),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
    ],
)
def test_how_a_command_ends(raised, code, words, capsys):
    def main(argv):
        if raised:
            raise raised

    assert command_line.run(main) == code
    assert capsys.readouterr().err.startswith(words)


def test_a_script_runs_its_command_only_where_python_was_started_with_it(capsys, monkeypatch):
    calls = []

    def command(name, doc, argv, modes=()):
        calls.append((name, doc, argv, modes))
        if argv == ["--bad"]:
            raise UserError("no such thing")

    main = command_line.script("sleep_interpreter.train.N23SIMD", command, "N23SIMD", "doc", modes=("normal",))
    assert not calls
    main(["--quick"])
    main()
    assert calls == [("N23SIMD", "doc", ["--quick"], ("normal",)), ("N23SIMD", "doc", None, ("normal",))]
    with pytest.raises(SystemExit) as ended:
        command_line.script("__main__", command, "N23SIMD", "doc")
    assert ended.value.code == 0 and calls[-1] == ("N23SIMD", "doc", None, ())


def test_progress_in_a_file_is_a_line_now_and_then(capfd):
    bar = command_line.progress(total=5000, unit="trial", desc="epoch")
    with bar:
        for count in range(5000):
            bar.set_postfix(loss=count, refresh=False)
            bar.update(1)
    text = capfd.readouterr().err
    assert text.count("epoch") <= 3 and "5000/5000" in text and "loss=4999" in text
