"""Data files that change under a computation that goes on: found, and told from mere touching."""

import os
import shutil

import pytest

from sleep_interpreter.data.formats.fingerprints import Unchanged, fingerprint
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.file_hashes import marks


@pytest.fixture
def files(tmp_path):
    found = [tmp_path / "a.tfrecord", tmp_path / "b.tfrecord"]
    for file in found:
        file.write_bytes(b"0123456789")
    return found


def other_content_and_the_old_time(file):
    about = file.stat()
    file.write_bytes(b"9876543210")
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


def replaced(file):
    new = file.with_suffix(".new")
    new.write_bytes(b"9876543210")
    new.replace(file)


def copied_anew(file):
    shutil.copy(file, file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: os.utime(file, ns=(1, 1)),
        lambda file: file.chmod(0o400),
        lambda file: os.link(file, file.with_suffix(".backup")),
        copied_anew,
    ],
    ids=["touched", "mode", "hard link", "copied anew"],
)
def test_the_same_bytes_are_no_change(files, change):
    data = Unchanged(marks(files), fingerprint(files))
    data.check()
    change(files[1])
    data.check()
    replaced(files[1])
    with pytest.raises(UserError, match="has changed while it was in use"):
        data.check()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_content_and_the_old_time, "b.tfrecord: has changed while it was in use"),
        (replaced, "b.tfrecord: has changed"),
        (lambda file: file.write_bytes(b"0123"), "b.tfrecord: has changed"),
        (lambda file: file.unlink(), "b.tfrecord: was removed while it was in use"),
        (lambda file: [replaced(own) for own in file.parent.glob("*.tfrecord")], "(and 1 more): has changed"),
    ],
    ids=["same size and time", "renamed over", "cut off", "removed", "both"],
)
def test_other_bytes_are_refused_by_name(files, change, words):
    data = Unchanged(marks(files), fingerprint(files))
    change(files[1])
    with pytest.raises(UserError) as error:
        data.check()
    assert words in str(error.value) and "put the data back" in str(error.value)
