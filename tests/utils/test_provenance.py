"""Where a result comes from: the project's own commit, whatever the environment says."""

import os
import shutil
import subprocess

import numpy as np
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TF_ENABLE_ONEDNN_OPTS", "0"), ("TF_XLA_FLAGS", "--tf_xla_auto_jit=2"), ("NVIDIA_TF32_OVERRIDE", "0"),
        ("OPENBLAS_CORETYPE", "Haswell"),
    ],
)  # fmt: skip
def test_what_changes_digits_is_recorded(name, value, monkeypatch):
    for other in provenance.NUMERIC:
        monkeypatch.delenv(other, raising=False)
    assert "environment" not in provenance.record()
    monkeypatch.setenv(name, value)
    assert provenance.record()["environment"] == {name: value}


@pytest.mark.parametrize(
    ("before", "now", "epochs", "told"),
    [({}, "0", 1, True), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "", 1, True), ({}, "", 1, False), ({}, "0", 2, False),
     ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "0", 1, False), ({}, "0", 0, False)],
)  # fmt: skip
def test_going_on_under_another_value_is_said(before, now, epochs, told, tmp_path, monkeypatch, caplog):
    from sleep_interpreter.train.engine.run_folder import RunFolder
    from sleep_interpreter.train.settings.experiment import Experiment
    from sleep_interpreter.utils.core import config

    for name in provenance.NUMERIC:
        monkeypatch.delenv(name, raising=False)
    settings = config.load(Experiment, "N23SISD", quick=True, overrides=["members=1", "train.epochs=2"])
    run = RunFolder(tmp_path, settings, None, {})
    run.begin()
    run.histories[0] = [{"epoch": epoch, "loss": 1.0} for epoch in range(epochs)]
    if before:
        monkeypatch.setenv(*next(iter(before.items())))
    if epochs:
        run.write_state(0, {"a": np.zeros(1)})
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", now)
    again = RunFolder(tmp_path, settings, None, {})
    again.begin()
    assert ("TF_ENABLE_ONEDNN_OPTS=0" in caplog.text) == ("other last digits" in caplog.text) == told
