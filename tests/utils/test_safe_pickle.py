"""Pickles: round trips, and refusal of everything that is not plain data."""

import io
import os
import pickle
import pickletools
import resource
import time
from collections import OrderedDict

import numpy as np
import pytest

from sleep_interpreter.data.formats.simulation_marks import carries_mark
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


def _files(content):
    """Return the bytes of a pickle in every protocol, under the names of NumPy 1 and 2."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.dumps(content, protocol=protocol)
        if protocol < 4:
            yield pickle.dumps(content, protocol=protocol).replace(b"numpy._core", b"numpy.core")


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12.0).reshape(3, 4)[::2, 1:],
        np.zeros((0, 200, 55), np.float32),
        np.array(["kiwi", "µ"]),
        np.array([b"ab", b"c"]),
        np.array([True, False]),
        np.array(3 + 4j),
        np.longdouble(1) / 3,
        {np.str_("shoes"): np.bool_(True), np.int64(3): np.str_(""), (1, "a"): np.float16(2)},
        [bytearray(b"ab"), b"", b"\xff", 2.5 + 1j, {1, 2}, frozenset("a"), OrderedDict(b=1, a=[2]), 2**70, None],
        np.dtype(">f4"),
    ],
    ids=repr,
)
def test_whatever_numpy_writes_of_numbers_and_text_is_read_as_numpy_reads_it(tmp_path, value):
    path = tmp_path / "data.pickle"
    for blob in _files([value, value]):
        path.write_bytes(blob)
        read, expected = read_pickle(path)[0], pickle.loads(blob)[0]
        assert type(read) is type(expected)
        if isinstance(expected, np.ndarray):
            assert (read.dtype, read.shape, read.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
            assert read.flags.writeable and read.flags.f_contiguous == expected.flags.f_contiguous
        else:
            assert read == expected and repr(read) == repr(expected)


def test_an_array_of_python_2_is_read(tmp_path):
    """Python 2 has no bytes: what it holds is a str, and its names are others."""
    path = tmp_path / "data.pickle"
    dtype = b"cnumpy\ndtype\nU\x02u1I0\nI1\ntR(I3\nU\x01|NNNI-1\nI-1\nI0\ntb".replace(b"U\x02", b"(U\x02")
    path.write_bytes(
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR(I1\n(I3\nt" + dtype
        + b"I00\nU\x03abctb."
    )  # fmt: skip
    assert read_pickle(path).tolist() == [97, 98, 99]


_DTYPE = b"cnumpy\ndtype\n(%s\x89\x88tR"  # a dtype by its name
_PLAIN_STATE = b"(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
_F8 = _DTYPE % b"X\x02\0\0\0f8" + _PLAIN_STATE
_EMPTY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85C\x01btR"
_HOSTILE = {
    # what a dtype says of itself: that it holds objects, or that it does not
    "objects over bytes": _EMPTY + b"(K\x01K\x01\x85" + _DTYPE % b"X\x02\0\0\0O8" + b"\x89C\x08abcdefghtb.",
    "flags deny objects": _EMPTY + b"(K\x01K\x01\x85" + _DTYPE % b"X\x02\0\0\0f8"
    + b"(K\x03X\x01\0\0\0|NX\x01\0\0\0a\x85}X\x01\0\0\0a" + _DTYPE % b"X\x02\0\0\0O8" + b"K\0\x86sK\x08K\x01K\0tb"
    + b"\x89C\x08abcdefghtb.",
    "objects over a buffer": b"cnumpy._core.numeric\n_frombuffer\n(C\x08abcdefgh" + _DTYPE % b"X\x02\0\0\0O8"
    + b"K\x01\x85X\x01\0\0\0CtR.",
    "a field beyond the item": _EMPTY + b"(K\x01K\x01\x85" + _DTYPE % b"X\x02\0\0\0V8"
    + b"(K\x03X\x01\0\0\0|NX\x01\0\0\0a\x85}X\x01\0\0\0a" + _F8
    + b"J\0\0\0\x7f\x86sK\x08K\x01K\0tb\x89C\x08abcdefghtb.",
    "objects in a list": _EMPTY + b"(K\x01K\x01\x85" + _F8 + b"\x89]tb.",
    "shape beyond the bytes": _EMPTY + b"(K\x01J\0\0\0\x7f\x85" + _F8 + b"\x89C\x08abcdefghtb.",
    "shape beyond all numbers": _EMPTY + b"(K\x01\x8a\x09\0\0\0\0\0\0\0\0\x7f\x85" + _F8 + b"\x89C\x08abcdefghtb.",
    "a negative side": _EMPTY + b"(K\x01J\xff\xff\xff\xff\x85" + _F8 + b"\x89C\0tb.",
    "rank 300": _EMPTY + b"(K\x01(" + 300 * b"K\x01" + b"t" + _F8 + b"\x89C\x08abcdefghtb.",
    "text beyond Unicode": _EMPTY + b"(K\x01K\x01\x85" + _DTYPE % b"X\x02\0\0\0U1"
    + b"(K\x03X\x01\0\0\0<NNNK\x04K\x04K\x08tb\x89C\x04\xff\xff\xff\xfftb.",
    "a truth value of 7": _EMPTY + b"(K\x01K\x01\x85" + _DTYPE % b"X\x02\0\0\0b1" + b"\x89C\x01\x07tb.",
    "a class of its own": b"cnumpy.core.multiarray\n_reconstruct\n(cbuiltins\nset\nK\0\x85C\x01btR.",
    # what crashes when it is looked up, compared or let go
    "a key of tuples in tuples": b"}K\x01" + 200_000 * b"\x85" + b"K\x01s.",
    "tuples in tuples": b"K\x01" + 200_000 * b"\x85" + b".",
    "lists in lists": 200_000 * b"]" + 199_999 * b"a" + b".",
    "a list in itself": b"]q\0h\0a.",
    "a dict in its list in itself": b"}q\0K\x01]h\0as.",
    "keys that collide": b"}(" + b"".join(b"\x8a\x10" + (n * (2**61 - 1)).to_bytes(16, "little") + b"N"
                                         for n in range(1, 50_000)) + b"u.",
    # what takes memory or time beyond the file's own length
    "memo index as text": b"]p" + b"9" * 4000 + b"\n.",
    "bytearray of a size": b"cbuiltins\nbytearray\n(\x8a\x05\0\0\0\0\x02tR.",
    "bytearray that claims a size": b"\x80\x05\x96\0\0\0\0\x02\0\0\0abc.",
    "bytes that claim a size": b"\x80\x05\x8e\0\0\0\0\x02\0\0\0abc.",
    "text that claims a size": b"\x80\x05\x8d\0\0\0\0\x02\0\0\0abc.",
    "a frame that claims a size": b"\x80\x05\x95\0\0\0\0\x02\0\0\0]..",
    "a number of a megabyte": b"\x8b\0\0\x10\0" + b"\x7f" * 2**20 + b".",
    "lists of lists": b"K\x01q\0" + b"".join(b"0](h%ch%ceq%c" % (n, n, n + 1) for n in range(60)) + b".",
    "many arrays of one's bytes": b"C\xff" + 255 * b"a" + b"q\x010(" + 5000 * (
        _EMPTY + b"(K\x01K\xff\x85" + _DTYPE % b"X\x02\0\0\0u1" + b"\x89h\x01tb0") + b"l.",
    "many sets of one list": b"(" + 60_000 * b"K\x01" + b"lq\x01" + 200 * b"cbuiltins\nset\nh\x01\x85R0" + b".",
    "one text ten thousand times": b"X\0\0\x10\0" + 2**20 * b"a" + b"q\x01(" + 10_000 * b"h\x01" + b"l.",
    # what calls or sets
    "a state of a list": b"]}X\x01\0\0\0aK\x01sb.",
    "a state of a name": b"cnumpy\ndtype\n}X\x04\0\0\0nameX\x03\0\0\0abcsb.",
    "a call of text": b"X\x06\0\0\0system(X\x02\0\0\0lstR.",
    "a name as a value": b"cbuiltins\nset\n.",
    "INST": b"(ibuiltins\nset\n.",
    "OBJ": b"(cbuiltins\nset\no.",
    "NEWOBJ": b"cbuiltins\nset\n)\x81.",
    "EXT1": b"\x82\x01.",
    "PERSID": b"Pabc\n.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    # what cannot be written or printed
    "half a sign": b"X\x03\0\0\0\xed\xa0\x80.",
    "half a sign as a key": b"}X\x03\0\0\0\xed\xa0\x80K\x01s.",
}  # fmt: skip


@pytest.mark.parametrize("kind", _HOSTILE)
def test_what_is_not_plain_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "hostile.pickle"
    path.write_bytes(_HOSTILE[kind])
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(UserError, match=r"hostile\.pickle: (refused|not a complete pickle)"):
        read_pickle(path)
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kB"
    assert carries_mark(path) is False


def test_the_parts_of_hostile_pickles_are_sound(tmp_path):
    """What is hostile in them is what they say, not how they are spelled."""
    path = tmp_path / "data.pickle"
    path.write_bytes(_EMPTY + b"(K\x01K\x01\x85" + _F8 + b"\x89C\x08\0\0\0\0\0\0\0\0tb.")
    assert read_pickle(path).tolist() == [0.0]


def test_a_high_place_to_remember_takes_no_memory(tmp_path):
    path = tmp_path / "data.pickle"
    path.write_bytes(b"]r\xff\xff\xff\xff.")
    assert read_pickle(path) == []


def test_shared_arrays_are_read_once(tmp_path):
    label = np.eye(15)[2]
    path = tmp_path / "data.pickle"
    path.write_bytes(pickle.dumps([{"category": label, "erp": np.ones((4, 5)), "n": n} for n in range(50)]))
    read = read_pickle(path)
    assert all(trial["category"] is read[0]["category"] for trial in read)


def test_a_pipe_is_no_pickle(tmp_path):
    os.mkfifo(tmp_path / "data.pickle")
    with pytest.raises(UserError, match=r"data\.pickle: no file"):
        read_pickle(tmp_path / "data.pickle")
