"""A network of another package that is wrong is left out with a warning, and takes nothing from ours."""

import os
import subprocess
import sys

import pytest
from packages import package

from sleep_interpreter.model import registry
from sleep_interpreter.model.networks import building
from sleep_interpreter.utils.core import errors
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import PARAMS, ROOT

GOOD = """
from pathlib import Path
from typing import Literal
from sleep_interpreter.model.networks.registration import NetworkSettings
class Theirs(NetworkSettings):
    builder = "their_network:build"
    params = Path(__file__).parent
    kind: Literal["my"] = "my"
    channels: int = 55
    classes: int = 15
    sleep_samples: int = 200
    awake: bool = False
def build(settings, seed, dropout): pass
"""
KIND = 'kind: Literal["my"] = "my"'
LINE = "my = their_network:Theirs"


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Install a package with one network and return the settings classes that are then known."""
    errors.warn_once.cache_clear()
    monkeypatch.syspath_prepend(tmp_path / "site")

    def install(code, line=LINE, name="their_network"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        package(tmp_path / "site", {"networks": line}, code, name)
        return registry._load_all()

    yield install
    for name in ("their_network", "other_network"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def (", "SyntaxError: invalid syntax (their_network.py, line 1)"),
        ("foo()", "NameError: name 'foo' is not defined"),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("", "AttributeError: module 'their_network' has no attribute 'Theirs'"),
        (GOOD.replace("channels: int", "channels: Inte"), "NameError: name 'Inte' is not defined"),
        ("def Theirs(*arguments): pass", "expected a class derived from NetworkSettings"),
        ("class Theirs: pass", "expected a class derived from NetworkSettings"),
        (GOOD.replace(KIND, 'kind: str = "my"'), "its settings need `kind: Literal['my']`"),
        (GOOD.replace(KIND, 'kind: Literal["my", "your"] = "my"'), "its settings need `kind: Literal['my']`"),
        (GOOD.replace('Literal["my"] = "my"', 'Literal["your"] = "your"'), "its settings need `kind: Literal['my']`"),
        (GOOD.replace(KIND, ""), "its settings lack kind"),
        (GOOD.replace("    awake: bool = False\n", ""), "its settings lack awake"),
        (GOOD.replace('builder = "their_network:build"', "pass"), "its settings lack builder"),
        (GOOD.replace('"their_network:build"', "len"), "its builder is <built-in function len>"),
        (GOOD.replace("their_network:build", "their_network"), "its builder is 'their_network'"),
        (GOOD.replace("Path(__file__).parent", '"folder"'), "its params is 'folder', expected the pathlib.Path"),
        (GOOD.replace("params = ", 'published = ("My",)\n    params = '), "its published is no tuple of Published"),
    ],
)
def test_a_wrong_network_is_left_out_with_a_warning(code, words, theirs, caplog):
    assert theirs(code) == registry.KINDS
    (record,) = caplog.records
    message = record.getMessage()
    assert record.levelname == "WARNING" and words in message and "\n" not in message, message
    assert message.startswith("WARNING: network my of another package left out: network 'my' cannot be loaded: ")
    assert message.endswith("(entry point 'their_network:Theirs' of package 'their_network': mend or uninstall it)")


def test_a_good_network_is_taken(theirs, caplog):
    assert [schema.__name__ for schema in theirs(GOOD)[len(registry.KINDS) :]] == ["Theirs"] and not caplog.records


@pytest.mark.parametrize("kind", ["decoder", "stager"])
def test_our_kinds_are_not_replaced(kind, theirs, caplog):
    assert theirs(GOOD, f"{kind} = their_network:Theirs") == registry.KINDS
    assert f"network {kind!r} of entry point 'their_network:Theirs'" in caplog.text
    assert "is not used: the name is taken" in caplog.text


def test_a_name_of_two_packages_leaves_both_out(theirs, caplog):
    theirs(GOOD)
    caplog.clear()
    assert theirs(GOOD, "my = other_network:Theirs", "other_network") == registry.KINDS
    assert "2 packages have one of that name" in caplog.text and caplog.text.count("entry point '") == 2


def test_scripts_go_on_without_a_broken_network(tmp_path):
    package(tmp_path, {"networks": LINE}, "def (", "their_network")
    done = subprocess.run(
        [sys.executable, str(ROOT / "train" / "N23SIMD.py"), "--data", str(tmp_path / "nothing")],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    first, *_, last = done.stderr.splitlines()
    assert done.returncode == 2 and first.startswith("WARNING: network my of another package left out")
    assert last.startswith("error: no training trials found"), done.stderr


@pytest.mark.parametrize("content", ["a: 010\n", "- 1\n", "a: [1\n", b"\xff\xfe"])
def test_a_broken_file_in_its_folder_is_left_out(content, theirs, caplog, tmp_path, monkeypatch):
    known = registry.names()
    (schema,) = theirs(GOOD)[len(registry.KINDS) :]
    monkeypatch.setattr(registry, "PARAMS_FOLDERS", (schema.params,))
    (schema.params / "Broken.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    (schema.params / "My.yaml").write_text("network: My\nmembers: 1\nmodel: {kind: my}\n")
    assert registry.names() == registry.names() == sorted([*known, "My"])
    assert [r.levelname for r in caplog.records] == ["WARNING"]  # said once
    assert "settings of another package left out: " in caplog.text and "Broken.yaml" in caplog.text


@pytest.mark.parametrize("name", ["N23SIMD", "N23SISD", "REMSIMD", "SIStaging"])
def test_our_networks_are_not_replaced(name, theirs, caplog):
    kinds = theirs(GOOD)
    (kinds[-1].params / f"{name}.yaml").write_text(f"network: {name}\nmembers: 1\nmodel: {{kind: my}}\n")
    assert building.settings_from_params(kinds, name) == registry.published_settings(name)
    (record,) = caplog.records
    assert f"{name}.yaml is not used, " in record.getMessage()
    assert record.getMessage().endswith(f"is: the name {name} is taken") and str(PARAMS.name) in record.getMessage()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (GOOD, "what their_network:build returns is no Member: it lacks settings, input_size, name, variables"),
        (GOOD.replace("def build", "def other"), "its builder 'their_network:build' cannot be loaded: AttributeError"),
        (GOOD.replace("their_network:build", "nowhere:build"), "cannot be loaded: ModuleNotFoundError: No module"),
        (GOOD.replace("their_network:build", "::"), "its builder '::' cannot be loaded: ValueError"),
    ],
)
def test_a_wrong_builder_is_told_when_it_is_built(code, words, theirs):
    with pytest.raises(UserError, match="network 'my': ") as refused:
        building.build_member(theirs(code)[-1](), 0)
    assert words in str(refused.value)
