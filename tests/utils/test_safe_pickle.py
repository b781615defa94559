"""Pickles: round trips, and refusal of everything that is not plain data."""

import io
import os
import pickle
import pickletools
from collections import OrderedDict

import numpy as np
import pytest

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.safe_pickle import read_pickle, write_pickle


def _content():
    rng = np.random.default_rng(0)
    return [
        {
            "category": np.eye(15, dtype=np.float32)[3],
            "Sleep_EEG": rng.standard_normal((55, 200)).astype(np.float32),
            "name": "kiwi",
            "number": np.int64(4),
            "nested": (1, 2.5, None, True, {"set"}, b"bytes"),
        }
    ]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol_are_read(tmp_path, protocol):
    path = tmp_path / "data.pickle"
    path.write_bytes(pickle.dumps([*_content(), OrderedDict(a=1)], protocol=protocol))
    read, ordered = read_pickle(path)
    expected = _content()[0]
    assert np.array_equal(read["Sleep_EEG"], expected["Sleep_EEG"])
    assert read["Sleep_EEG"].dtype == np.float32
    assert read["number"] == 4
    assert read["nested"] == expected["nested"]
    assert ordered == {"a": 1}


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_arrays_of_old_and_new_numpy_are_read(tmp_path, core):
    blob = pickle.dumps(np.arange(3.0), protocol=2)  # protocol 2 names globals as plain lines
    assert b"numpy._core.multiarray" in blob
    path = tmp_path / "data.pickle"
    path.write_bytes(blob.replace(b"numpy._core", core))
    assert read_pickle(path).tolist() == [0, 1, 2]


def test_write_then_read(tmp_path):
    path = tmp_path / "folder" / "data.pickle"
    write_pickle(_content(), path)
    assert np.array_equal(read_pickle(path)[0]["Sleep_EEG"], _content()[0]["Sleep_EEG"])
    assert [p.name for p in path.parent.iterdir()] == ["data.pickle"]


def test_files_name_what_numpy_1_has_and_change_in_nothing_else(tmp_path):
    """The published code runs with NumPy 1.23, which knows no numpy._core."""
    trial = {"eeg": np.ones((40, 500), np.float32), "item": np.str_("kiwi"), "score": np.float64(3), "turned": None}
    content = [trial, {"turned": np.ones((3, 2)).T, "words": np.array(["a", None], object), "big": b"x" * 100_000}]
    path = tmp_path / "data.pickle"
    write_pickle(content, path)
    names = [
        argument
        for opcode, argument, _ in pickletools.genops(path.read_bytes())
        if opcode.name == "SHORT_BINUNICODE" and str(argument).startswith("numpy")
    ]
    assert set(names) == {"numpy", "numpy.core.multiarray"}
    ours, fast = io.BytesIO(), io.BytesIO()
    for pickler in (pickle._Pickler(ours, protocol=4), pickle.Pickler(fast, protocol=4)):
        pickler.fast = True
        pickler.dump(content)
    assert ours.getvalue() == fast.getvalue(), "the pickler in Python writes what the one in C does"
    assert len(path.read_bytes()) == len(fast.getvalue()) - fast.getvalue().count(b"numpy._core")


def test_equal_content_gives_equal_bytes(tmp_path):
    shared = "shoes"
    same_object = [shared, shared]
    equal_objects = ["shoes", "".join(["sh", "oes"])]
    write_pickle(same_object, tmp_path / "a")
    write_pickle(equal_objects, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "data.pickle"
    write_pickle([1], path)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        write_pickle([2, lambda: None], path)
    assert read_pickle(path) == [1]
    assert len(list(tmp_path.iterdir())) == 1


class _Hostile:
    def __init__(self, call, *arguments):
        self.reduced = (call, arguments)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ["system", "eval", "open"])
def test_hostile_pickle_is_refused_and_not_executed(tmp_path, kind, protocol):
    sentinel = tmp_path / "sentinel"
    hostile = {
        "system": _Hostile(os.system, f"touch {sentinel}"),
        "eval": _Hostile(eval, f"open({str(sentinel)!r}, 'w').close()"),
        "open": _Hostile(open, str(sentinel), "w"),
    }[kind]
    path = tmp_path / "hostile.pickle"
    path.write_bytes(pickle.dumps([np.zeros(3), hostile], protocol=protocol))
    assert not sentinel.exists()
    with pytest.raises(UserError, match=rf"hostile\.pickle: refused.*{kind}"):
        read_pickle(path)
    assert not sentinel.exists()


def test_the_hostile_pickle_of_these_tests_would_execute(tmp_path):
    sentinel = tmp_path / "sentinel"
    pickle.loads(pickle.dumps(_Hostile(os.system, f"touch {sentinel}")))
    assert sentinel.exists()


def test_codecs_encode_serves_only_what_numpy_needs(tmp_path):
    import codecs

    path = tmp_path / "data.pickle"
    path.write_bytes(pickle.dumps(_Hostile(codecs.encode, "text", "rot13")))
    with pytest.raises(UserError, match=r"data\.pickle"):
        read_pickle(path)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_truncated_pickle(tmp_path, part):
    whole = pickle.dumps(_content(), protocol=4)
    path = tmp_path / "short.pickle"
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(UserError, match=r"short\.pickle: not a complete pickle"):
        read_pickle(path)


def test_other_file_named_pickle(tmp_path):
    path = tmp_path / "text.pickle"
    path.write_text("subject,trial\n1,2\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"text\.pickle: not a complete pickle"):
        read_pickle(path)


def test_missing_file_says_how_to_simulate(tmp_path):
    with pytest.raises(UserError, match=r"absent\.pickle: file not found.*simulate\.py --preset test"):
        read_pickle(tmp_path / "absent.pickle")
