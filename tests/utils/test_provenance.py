"""Where a result comes from: the project's own commit, whatever the environment says."""

import os
import shutil
import subprocess

import pytest

from sleep_interpreter.utils.core import provenance

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder, *words):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, env=clean, check=True
    )
    return done.stdout.strip()


def repository(folder, name):
    folder.mkdir()
    (folder / "pyproject.toml").write_text(name)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", name)
    return folder, git(folder, "rev-parse", "HEAD")


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder, revision = repository(tmp_path / "project", "ours")
    monkeypatch.setattr(provenance, "ROOT", folder)
    monkeypatch.setattr(provenance, "CHECKOUT", True)
    return folder, revision


@pytest.mark.parametrize(
    "wish", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_CEILING_DIRECTORIES"]
)
def test_the_commit_is_the_projects_whatever_git_is_told(wish, project, tmp_path, monkeypatch):
    other, revision = repository(tmp_path / "other", "theirs")
    values = {"GIT_WORK_TREE": other, "GIT_CEILING_DIRECTORIES": project[0], "GIT_INDEX_FILE": other / "nothing"}
    monkeypatch.setenv(wish, str(values.get(wish, other / ".git")))
    assert provenance.git_revision() == project[1] != revision
    (project[0] / "pyproject.toml").write_text("changed")
    assert provenance.git_revision() == f"{project[1]}+changes"


def test_a_repository_around_the_project_is_not_its_own(project, tmp_path, monkeypatch):
    inside = project[0] / "unpacked"
    inside.mkdir()
    monkeypatch.setattr(provenance, "ROOT", inside)
    assert provenance.git_revision() is None


def test_without_git_there_is_no_commit(project, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert provenance.git_revision() is None
