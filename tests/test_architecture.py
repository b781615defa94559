"""The house rules of docs/architecture.md, held by the code itself."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("data", "lasso_glm", "model", "realtime", "test", "train", "utils")
FILES = sorted(
    path
    for room in ROOMS
    for path in (ROOT / room).rglob("*.py")
    if "external" not in path.parts and "simulated" not in path.parts
)
# What a room may import of the others; scripts in train/, test/ and lasso_glm/ are imported by nobody.
MAY_IMPORT = {
    "data": {"data", "utils"},
    "model": {"model", "utils"},
    "utils": {"data", "model", "utils"},
    "realtime": {"model", "realtime", "utils"},
    "train": {"data", "model", "utils"},
    "test": {"data", "model", "utils"},
    "lasso_glm": {"data", "model", "utils"},
}
# The floor of the house: read by every room, so it reads nothing of them.
FLOOR = {
    "amplitude", "channels", "cli", "config", "edf", "errors", "locks", "one_thread", "paths",
    "preprocessing", "provenance", "quiet", "recording", "resample", "stats", "vocabulary", "yaml_text",
}  # fmt: skip


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def is_script(path):
    return path.relative_to(ROOT).parts[0] in ("train", "test", "lasso_glm") and path.stem != "__init__"


def imports(path, everywhere=True):
    """Return the modules that a file imports; with everywhere=False only those imported at its top."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_room_imports_only_what_it_may(path):
    room = path.relative_to(ROOT).parts[0]
    used = {module.split(".")[0] for module in imports(path)} & set(ROOMS)
    assert used <= MAY_IMPORT[room], f"{name_of(path)} imports from {used - MAY_IMPORT[room]}"
    if room == "utils" and path.stem in FLOOR:
        assert used <= {"utils"}, f"{name_of(path)} is read by every room and may not import from {used}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_matplotlib_stays_in_plots(path):
    if not name_of(path).startswith("utils/plots"):
        assert not any(m.split(".")[0] in ("matplotlib", "seaborn") for m in imports(path))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_unpickled_plainly(path):
    # the restricted unpickler itself; processes of joblib, which nobody reads files with
    allowed = {"utils/core/safe_pickle.py", "utils/core/parallel.py"}
    if name_of(path) in allowed:
        return
    used = imports(path)
    assert (
        not used & {"pickle", "joblib", "dill", "cloudpickle"} or name_of(path) == "utils/staging/stagers.py"
    )
    source = path.read_text(encoding="utf-8")
    assert "allow_pickle=True" not in source and "yaml.load(" not in source


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_modules_keep_one_purpose(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 400
    if is_script(path):
        assert sum(bool(line.strip()) for line in lines) <= 40, "a script is a docstring and a call"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_names_are_documented(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "module docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if node.name == "main":
                continue
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_every_script_shows_its_help_without_heavy_imports():
    """`--help` must answer at once, so nothing heavy is imported before the arguments are read."""
    heavy = {"tensorflow", "keras", "mne", "yasa", "sklearn", "matplotlib", "scipy"}
    scripts = [path for path in FILES if is_script(path)]
    for path in scripts:
        assert not {m.split(".")[0] for m in imports(path, everywhere=False)} & heavy, name_of(path)


def test_no_test_package_shadows_the_standard_library():
    assert not (ROOT / "test" / "__init__.py").exists()
    assert not list((ROOT / "test").glob("test_*.py"))
