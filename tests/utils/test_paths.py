"""Files are written completely or not at all, and stay whose they were."""

import os
import threading

import pytest

from sleep_interpreter.utils.core.paths import atomic_write


def write(path, text):
    with atomic_write(path) as temporary:
        temporary.write_text(text)


@pytest.mark.skipif(os.name == "nt", reason="modes and links of POSIX")
def test_mode_and_link_of_a_file_stay(tmp_path):
    file, link = tmp_path / "private.txt", tmp_path / "link.txt"
    file.write_text("old")
    file.chmod(0o600)
    link.symlink_to(file)
    write(link, "new")
    assert link.is_symlink() and file.read_text() == "new" and file.stat().st_mode & 0o777 == 0o600
    link.unlink()
    link.symlink_to(tmp_path / "absent" / "file.txt")
    write(link, "first")
    assert (tmp_path / "absent" / "file.txt").read_text() == "first"


def test_an_error_leaves_the_old_file(tmp_path):
    write(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_threads_that_write_one_file_do_not_meet(tmp_path):
    failed = []

    def often(text):
        try:
            for _ in range(50):
                write(tmp_path / "a.txt", text)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=often, args=[name * 1000]) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(set((tmp_path / "a.txt").read_text())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
