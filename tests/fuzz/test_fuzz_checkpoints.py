"""Pickles, archives, checkpoints and results that anybody may have made."""

import io
import pickle

import numpy as np
import pytest
from hypothesis import strategies as st

from sleep_interpreter.lasso_glm.engine.run import read_subject_file
from sleep_interpreter.model.checkpoints import checkpoint, npz_archive
from sleep_interpreter.model.checkpoints.tf_checkpoint import ObjectGraph
from sleep_interpreter.model.networks.settings import DecoderSettings
from sleep_interpreter.utils.core.safe_pickle import read_pickle
from sleep_interpreter.utils.core.tensorflow_import import import_tensorflow
from tests.fuzz.engine import changed, changed_value, fuzz, refused
from tests.hostile_checkpoints import VALUE, entry, npy, table, write_npz

pytestmark = pytest.mark.slow

_PLAIN = {
    "sleep": [np.arange(12, dtype=np.float32).reshape(3, 4), np.arange(6.0).reshape(2, 3).T], "label": np.int64(3),
    "name": "Kiwi \u00e4", "flags": (True, None, 1.5, b"x", 2**40), "texts": np.array(["a", "bc"]), "set": {1, 2},
    "more": bytearray(b"yz"), "complex": 1 + 2j, "dtype": np.dtype("<f8"),
}  # fmt: skip
PICKLES = [pickle.dumps(_PLAIN, protocol) for protocol in range(6)]
_HEADER = {
    "format": 1, "network": "N23SIMD", "mode": None, "members": 1, "notes": {},
    "model": DecoderSettings().model_dump(mode="json"),
}  # fmt: skip
_STATE = {"history": [{"epoch": 1, "loss": 0.5}], "notes": {"seed": 0}}
_NAME = "individual_models/0/kernel"
_ENTRIES = [entry(), entry((2, 3), size=24), entry((2,) * 5, code=2, size=256), entry((), code=7, size=12)]


def test_pickles(tmp_path):
    path = tmp_path / "data.pickle"

    def attempt(content):
        path.write_bytes(content)
        read_pickle(path)

    fuzz(attempt, changed(PICKLES), 1500)


def test_pickles_of_any_instructions(tmp_path):
    path = tmp_path / "data.pickle"
    codes = [bytes([code]) for code in range(256)]
    calls = (
        b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"c_codecs\nencode\n",
        b"cnumpy.core.multiarray\nscalar\n", b"cnumpy._core.numeric\n_frombuffer\n",
    )  # fmt: skip
    values = b"V\x00\n", b"I1\n", b"C\x04abcd", b"U\x02f4", b"K\x01", b"q\0", b"h\0", b"j\xff\xff\xff\xff"
    steps = (bytes([code]) for code in b"(tRb]}ue02\x85\x86\x87")  # as often as all others together
    parts = st.one_of(st.sampled_from(codes), st.sampled_from([*calls, *values, *steps]))

    def attempt(content):
        path.write_bytes(b"\x80\x04" + content + b".")
        read_pickle(path)

    fuzz(attempt, st.lists(parts, max_size=40).map(b"".join), 1500)


def test_archives(tmp_path):
    import_tensorflow()  # takes longer than any file may
    path = tmp_path / "ensemble.npz"
    arrays = [npy(np.ones((2, 3), dtype)) for dtype in ("<f4", "<i8", "U3", "?")]
    sound = write_npz(path, {f"{_NAME}.npy": arrays[0]}, _HEADER).read_bytes()
    names = st.sampled_from([f"{_NAME}.npy", "a.npy", "b", "x/../y.npy"])
    members = st.dictionaries(names, changed(arrays), max_size=3)
    header = st.one_of(st.none(), changed_value(_HEADER), changed_value(_STATE))

    def attempt(value):
        if isinstance(value, bytes):
            path.write_bytes(value)
        else:
            write_npz(path, *value)
        for read in (checkpoint.restore, npz_archive.read_state, read_subject_file):
            refused(read, path)

    fuzz(attempt, st.one_of(changed([sound, npy(np.ones(3))]), st.tuples(members, header)), 600)


def test_indexes_of_tensorflow(tmp_path):
    import_tensorflow()  # as above
    prefix = tmp_path / "x.ckpt"
    (tmp_path / "x.ckpt.data-00000-of-00001").write_bytes(bytes(256))
    known = f"{_NAME}{VALUE}", f"individual_models/1/bias{VALUE}", "_CHECKPOINTABLE_OBJECT_GRAPH"
    names = st.sampled_from([*known, "x", "\x1b"])
    pairs = st.dictionaries(names, changed(_ENTRIES), max_size=4)
    whole = table([[(b"", b"\x08\x01"), (f"{_NAME}{VALUE}".encode(), _ENTRIES[0])]])

    def attempt(value):
        if isinstance(value, dict):
            value = table([[(b"", b"\x08\x01"), *sorted((key.encode(), made) for key, made in value.items())]])
        (tmp_path / "x.ckpt.index").write_bytes(value)
        graph = ObjectGraph(prefix)
        for name in graph.shapes:
            refused(graph.read, name)
        checkpoint.restore(prefix)

    fuzz(attempt, st.one_of(changed([whole]), pairs), 800)


def test_arrays(tmp_path):
    """The header of an array is text that Python has to read."""
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    path = tmp_path / "a.npz"
    kinds = "<f4", "|O", "<U3", "<f4,<f4", "V8", "<M8[s]", "{", "('<f4', (3,))", "<f999", "", "O" * 500
    sides = "(3,)", "()", "(-1,)", "3", "(3,3,)", "(10**9,)", "(True,)", "(1000000000000,)", "x", "((1,),)"
    fields, shapes = st.sampled_from(kinds), st.sampled_from(sides)
    order = st.sampled_from(["False", "True", "1", "None", "x" * 300])

    def attempt(value):
        descr, shape, fortran = value
        text = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
        header = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
        write_npz(path, {"a.npy": header + bytes(12)}, _HEADER)
        npz_archive.read_arrays(path)

    fuzz(attempt, st.tuples(fields, shapes, order), 300)
