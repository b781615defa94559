"""The order of packages and the other rules of docs/architecture.md, held by the code itself."""

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ORDER = (
    "utils/core", "utils/signal", "utils/metrics", "utils/plots", "utils/staging", "utils",
    "params",
    "data/formats", "data/events", "data/inventory", "data/simulation", "data/preparation", "data",
    "model/networks", "model/SIStaging", "model/lasso_glm", "model/registry.py", "model/N23SIMD",
    "model/N23SISD", "model/REMSIMD", "model/REMSISD", "model/checkpoints", "model", "utils/model.py",
    "train/settings", "train/evaluation", "train/engine", "train/commands", "train", "test",
    "lasso_glm/engine", "lasso_glm",
    "realtime/Subject.py", "realtime/Utils", "realtime/Parameters", "realtime/Recording",
    "realtime/Sources", "realtime/Output", "realtime/Cues", "realtime/Model", "realtime/Control",
    "realtime/Session", "realtime/Report", "realtime/Monitor", "realtime/Setup", "realtime",
    "sleep_interpreter",
    "benchmarks/plots.py", "benchmarks/runner.py", "benchmarks/example_recording.py", "benchmarks/speed",
    "benchmarks/staging", "benchmarks/decoding", "benchmarks/preparation", "benchmarks/simulator",
    "benchmarks/realtime", "benchmarks/statistics", "benchmarks",
)  # fmt: skip
"""From the ground up: a package imports what stands before it, and itself. A single file may have a place of
its own; what is in no package of a folder (its scripts) stands where the folder stands."""
LAZY = "# lazy:"
"""An import inside a function says with this why it is there: start-up time, or an optional dependency."""
SCRIPT_FOLDERS = ("train", "test", "lasso_glm")


def listed(*patterns):
    """Return the tracked and new Python files that match, as paths from the root."""
    found = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    return sorted(name for name in set(found) if (ROOT / name).is_file() and not name.startswith("tests/"))


FILES = [name for name in listed("*.py") if not name.startswith(("environment/", ".ci/", "setup.py"))]
MODULES = {
    ("" if name.startswith(("benchmarks/", "sleep_interpreter/")) else "sleep_interpreter.")
    + name[:-3].replace("/", ".").removesuffix(".__init__"): name
    for name in FILES
}


@cache
def tree(name):
    """Return the syntax tree of a file, each node with its `parent`."""
    top = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    for node in ast.walk(top):
        for child in ast.iter_child_nodes(node):
            child.parent = node
    return top


def parents(node):
    """Yield what a node lies in, from the inside out."""
    while hasattr(node, "parent"):
        node = node.parent
        yield node


def in_function(node):
    """Whether a node lies in a function."""
    return any(isinstance(p, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) for p in parents(node))


def for_types_only(node):
    """Whether an import is read by type checkers alone."""
    return any(isinstance(p, ast.If) and ast.unparse(p.test).endswith("TYPE_CHECKING") for p in parents(node))


def imports(name):
    """Yield (node, module) of a file's imports, `from package import module` as that module."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                # its attributes would reach any package
                assert "sleep_interpreter." not in alias.name, f"{name}:{node.lineno}: write `from ... import`"
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node, inner if inner in MODULES else node.module


def place(name):
    """Return the place of a file in ORDER."""
    path = Path(name)
    for candidate in (path, *path.parents):
        if candidate.as_posix() in ORDER:
            return ORDER.index(candidate.as_posix())
    raise AssertionError(f"{name}: its package has no place in ORDER")


def own_imports(name):
    """Yield (node, file) of the imports of this project's own modules."""
    for node, module in imports(name):
        if module in MODULES and MODULES[module] != name:
            yield node, MODULES[module]


def for_each(names):
    """Make one test of a check of a file; it tells of every file that fails."""

    def decorate(check):
        def test():
            problems = []
            for name in names:
                try:
                    check(name)
                except AssertionError as error:
                    problems.append(f"{name}: {error}")
            assert not problems, "\n".join(problems)

        test.__doc__ = check.__doc__
        return test

    return decorate


@for_each(FILES)
def test_nothing_is_imported_from_above(name):
    for node, module in imports(name):
        head = module.split(".")[0]
        assert head not in ("utils", "data", "model", "realtime", "train", "lasso_glm", "params", "tests", "test"), (
            f"{name}:{node.lineno}: {module} is imported as sleep_interpreter.{module}"
        )
        if head in ("sleep_interpreter", "benchmarks"):
            assert module in MODULES or module == "sleep_interpreter", f"{name}:{node.lineno}: no {module}"
    for node, other in own_imports(name):
        assert place(other) <= place(name), (
            f"{name}:{node.lineno} imports {other}, which stands above it: {ORDER[place(other)]} is after "
            f"{ORDER[place(name)]} in the order of packages"
        )


def test_no_imports_go_round_in_a_circle():
    below = {name: {other for _, other in own_imports(name)} for name in FILES}
    done, under_way = set(), []

    def visit(name):
        if name in under_way:
            circle = " -> ".join([*under_way[under_way.index(name) :], name])
            raise AssertionError(f"imports go round in a circle: {circle}")
        if name in done:
            return
        under_way.append(name)
        for other in sorted(below[name]):
            visit(other)
        under_way.pop()
        done.add(name)

    for name in FILES:
        visit(name)


@for_each(FILES)
def test_an_import_inside_a_function_says_why(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    silent = [
        f"{name}:{node.lineno}: {lines[node.lineno - 1].strip()}"
        for node, _ in imports(name)
        if in_function(node)
        and not for_types_only(node)
        and not any(line.partition(LAZY)[2].strip() for line in lines[node.lineno - 1 : node.end_lineno])
    ]
    if not name.startswith("benchmarks/"):  # no start-up of a user's script waits for them
        assert not silent, "\n".join(silent)


@for_each(FILES)
def test_modules_are_imported_by_name_in_the_registry_alone(name):
    if name not in ("utils/core/registry.py", "model/networks/building.py", "sleep_interpreter/__init__.py"):
        called = {
            getattr(n.func, "attr", getattr(n.func, "id", "")) for n in ast.walk(tree(name)) if isinstance(n, ast.Call)
        }
        assert not called & {"import_module", "__import__", "resolve_name"}


def test_packages_of_data_are_committed():
    """.gitignore leaves out the folders of data/, where data sets lie, but for the packages."""
    tracked = listed("data/*.py")
    for init in (ROOT / "data").glob("*/__init__.py"):
        assert init.relative_to(ROOT).as_posix() in tracked, f"{init.parent}: .gitignore hides it"


@for_each(FILES)
def test_matplotlib_stays_in_plots(name):
    if not name.startswith(("utils/plots/", "benchmarks/")):
        assert not any(module.split(".")[0] in ("matplotlib", "seaborn") for _, module in imports(name))


@for_each(FILES)
def test_nothing_is_unpickled_plainly(name):
    # the restricted unpickler itself; processes of joblib, which nobody reads files with
    used = {module.split(".")[0] for _, module in imports(name)}
    if name not in ("utils/core/safe_pickle.py", "utils/core/parallel.py", "utils/staging/stagers.py"):
        assert not used & {"pickle", "joblib", "dill", "cloudpickle"}
    source = (ROOT / name).read_text(encoding="utf-8")
    assert "allow_pickle=True" not in source and "yaml.load(" not in source and ".read_pickle(" not in source


@for_each([n for n in FILES if str(Path(n).parent) in SCRIPT_FOLDERS])
def test_a_script_is_a_docstring_and_a_call(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 60


@for_each(FILES)
def test_public_names_are_documented(name):
    assert ast.get_docstring(tree(name)), "module docstring"
    for node in tree(name).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert node.name == "main" or ast.get_docstring(node), f"{node.name} has no docstring"


@for_each([n for n in listed("*.py") if not n.startswith(("benchmarks/", ".ci/"))])
def test_functions_have_type_hints(name):
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            static = any(ast.unparse(decorator) == "staticmethod" for decorator in node.decorator_list)
            named, bound = node.args, isinstance(node.parent, ast.ClassDef) and not static
            places = [*[*named.posonlyargs, *named.args][bound:], named.vararg, *named.kwonlyargs, named.kwarg]
            bare = [place.arg for place in places if place and not place.annotation]
            assert not bare, f"{name}:{node.lineno}: {node.name}: no type hint of {', '.join(bare)}"
            assert node.returns, f"{name}:{node.lineno}: {node.name}: no type hint of what it returns"


def test_every_script_shows_its_help_without_heavy_imports():
    """`--help` must answer at once, so nothing heavy is imported before the arguments are read."""
    heavy = {"tensorflow", "keras", "mne", "yasa", "sklearn", "matplotlib", "scipy", "pandas"}
    for name in FILES:
        if Path(name).parent.as_posix() not in (*SCRIPT_FOLDERS, "data", "realtime"):
            continue
        reached, waiting = set(), [name]
        while waiting:
            file = waiting.pop()
            if file in reached:
                continue
            reached.add(file)
            for node, module in imports(file):
                if in_function(node) or for_types_only(node):
                    continue
                assert module.split(".")[0] not in heavy, f"{name} --help imports {module} in {file}"
                if module in MODULES:
                    waiting.append(MODULES[module])


def test_no_test_package_shadows_the_standard_library():
    assert not (ROOT / "test" / "__init__.py").exists()
    assert not list((ROOT / "test").glob("test_*.py"))


def test_equal_names_of_test_files_are_none():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
