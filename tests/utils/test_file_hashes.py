"""Hashes of files: every byte, read once, and anew after any change."""

import hashlib
import os
import pwd
import shutil
import threading

import pytest

from sleep_interpreter.utils.core import file_hashes
from sleep_interpreter.utils.core.errors import UserError


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv(file_hashes.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(file_hashes, "SETTLED", -1.0)  # as if the last change were long ago
    path = tmp_path / "data"
    path.write_bytes(bytes(200_000))
    return path


@pytest.fixture
def reads(monkeypatch):
    """Count the bytes that are hashed."""
    counted = []
    real = hashlib.sha256

    class Counting:
        digest_size = real().digest_size

        def __init__(self):
            self.own = real()

        def update(self, block):
            counted.append(len(block))
            self.own.update(block)

        def digest(self):
            return self.own.digest()

    monkeypatch.setattr(file_hashes.hashlib, "sha256", Counting)
    return counted


def digest_of(path):
    (found,) = file_hashes.digests([path])
    return found


def test_an_unchanged_file_is_read_once_by_whatever_name(file, reads, tmp_path):
    first = digest_of(file)
    assert sum(reads) == 200_000
    os.link(file, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(file)
    reads.clear()
    # a hard link changes the time of the inode: read again, once, and known by both names then
    assert digest_of(tmp_path / "hard") == first and sum(reads) == 200_000
    reads.clear()
    assert digest_of(file) == digest_of(tmp_path / "soft") == digest_of(file.rename(tmp_path / "moved")) == first
    assert sum(reads) in (0, 200_000)  # a rename changes that time on some file systems
    reads.clear()
    assert digest_of(tmp_path / "hard") == first and not reads


@pytest.mark.parametrize("way", ["in the middle", "with its old time", "another file of that name", "longer"])
def test_whatever_changes_is_read_again(file, way, tmp_path):
    first, about = digest_of(file), file.stat()
    content = bytearray(file.read_bytes())
    content[100_000] = 1
    if way == "longer":
        file.write_bytes(bytes(200_001))
    elif way == "another file of that name":
        (tmp_path / "new").write_bytes(content)
        (tmp_path / "new").replace(file)
    else:
        file.write_bytes(content)
    if way == "with its old time":
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert digest_of(file) != first


def test_what_has_just_changed_is_not_kept(file, reads, monkeypatch):
    monkeypatch.setattr(file_hashes, "SETTLED", 2.0)
    digest_of(file)
    reads.clear()
    digest_of(file)
    assert sum(reads) == 200_000


@pytest.mark.parametrize("damage", ["no database", "a file in its place", "wrong content"])
def test_a_cache_that_cannot_be_used_costs_time_alone(file, damage, tmp_path):
    first = digest_of(file)
    database = tmp_path / "cache" / "hashes.sqlite"
    if damage == "no database":
        database.write_bytes(b"not a database" * 1000)
    elif damage == "a file in its place":
        shutil.rmtree(tmp_path / "cache")
        (tmp_path / "cache").write_text("a file")
    else:
        with file_hashes._cache() as known:
            known.execute("UPDATE hashes SET digest = 'short'")
    assert digest_of(file) == first


@pytest.mark.parametrize("told", ["~nosuchuser/x", "~/x", "", "/dev/null/x"])
def test_somebody_without_a_home_gets_hashes_all_the_same(file, told, monkeypatch):
    """As in a container that runs as a user whom it does not know."""
    first = digest_of(file)

    def nobody(*_):
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(pwd, "getpwnam", nobody)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HOME", "XDG_"))}
    monkeypatch.setattr(os, "environ", environment | {file_hashes.CACHE: told})
    assert digest_of(file) == first


def test_a_file_that_changes_while_it_is_read_is_refused(file, monkeypatch):
    real = file_hashes._mark
    marks = []

    def grows(path):
        if marks:
            path.write_bytes(bytes(200_010))
        marks.append(real(path))
        return marks[-1]

    monkeypatch.setattr(file_hashes, "_mark", grows)
    with pytest.raises(UserError, match="data: changes while it is read"):
        digest_of(file)


def test_processes_share_the_cache(file, tmp_path):
    files = [tmp_path / f"f{k}" for k in range(20)]
    for k, path in enumerate(files):
        path.write_bytes(bytes([k]) * 1000)
    found, errors = [], []

    def work():
        try:
            found.append(file_hashes.digests(files))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and all(own == found[0] for own in found)
