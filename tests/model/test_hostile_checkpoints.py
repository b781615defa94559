"""Checkpoints from anywhere: an index or an archive that claims anything is one sentence, at once and in little memory.

Nothing here needs TensorFlow: what is hostile is found before it is asked.
"""

import resource
import time
import zipfile

import numpy as np
import pytest

from sleep_interpreter.lasso_glm.engine.run import read_subject_file
from sleep_interpreter.model.checkpoints import checkpoint, npz_archive
from sleep_interpreter.model.checkpoints.tf_checkpoint import ObjectGraph
from sleep_interpreter.model.networks.settings import DecoderSettings
from sleep_interpreter.utils.core.errors import UserError
from tests.hostile_checkpoints import VALUE, block, entry, field, npy, npy_header, table, write_checkpoint, write_npz

NAME = f"individual_models/0/kernel{VALUE}"


@pytest.fixture(autouse=True)
def bounds():
    """Every test here takes little time and memory, whatever a file claims."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "kB"


def test_the_writer_of_these_tests_writes_checkpoints(tmp_path):
    values = np.arange(6, dtype="<f4")
    sound = entry((2, 3), size=24, checksum=0)
    path = write_checkpoint(tmp_path / "x.ckpt", {NAME: sound}, values.tobytes())
    graph = ObjectGraph(path)
    assert graph.shapes == {"individual_models/0/kernel": (2, 3)}
    with pytest.raises(UserError, match="checksum of its values is wrong"):
        graph.read("individual_models/0/kernel")


@pytest.mark.parametrize(
    ("made", "told"),
    {
        "a negative side": (entry((-1,)), "a side of 18446744073709551615"),
        "sides that overflow": (entry((2**31, 2**31, 4)), "does not fit 4 bytes"),
        "rank 300": (entry((1,) * 300), "more than 16 sides"),
        "no side": (entry((0, 5)), "does not fit 4 bytes"),
        "behind the end": (entry(offset=10**12), "behind the end"),
        "larger than the file": (entry((2**30,), size=2**32), "behind the end"),
        "another file": (entry(shard=7), "behind the end"),
        "in parts": (entry(more=field(7, b"")), "in parts"),
        "a shape of text": (field(1, 1) + field(2, b"garbage"), "damaged|not known"),
        "garbage": (b"\xff" * 30, "damaged"),
        "a number without end": (b"\x08" + b"\x80" * 11, "damaged"),
    }.values(),
)
def test_an_entry_of_the_index_that_cannot_be_meant(tmp_path, made, told):
    path = write_checkpoint(tmp_path / "x.ckpt", {NAME: made})
    for opened in (checkpoint.restore, ObjectGraph):
        with pytest.raises(UserError, match=rf"x\.ckpt: not readable as a TensorFlow checkpoint: .*({told})"):
            opened(path)


@pytest.mark.parametrize("code", [0, 7, 14, 20, 999, 2**40])
def test_values_of_a_type_that_is_no_number(tmp_path, code):
    graph = ObjectGraph(write_checkpoint(tmp_path / "x.ckpt", {NAME: entry(code=code)}))
    with pytest.raises(UserError, match=rf"values of type {code}, which are no numbers"):
        graph.read("individual_models/0/kernel")


_TWICE = block([(b"a", entry())])


@pytest.mark.parametrize(
    ("content", "told"),
    {
        "empty": (b"", "not complete"),
        "text": (b"subject\ttrial\n" * 10, "no index"),
        "300,000 names": (table([[(b"%09d" % n, b"") for n in range(300_000)]]), "more than 100,000"),
        "a name without end": (table([[(b"9" * 5000, b"")]]), "longer than 1000"),
        "keys out of order": (table([[(b"", field(1, 1)), (b"b", b""), (b"a", b"")]]), "not in order"),
        "a key twice": (table([_TWICE, _TWICE]), "not in order"),
        "no text": (table([[(b"\xff\xfe", b"")]]), "no text"),
        "a terminal's orders": (table([[(b"", field(1, 1)), (b"\x1b[2J", entry())]]), "no name"),
        "a broken block": (table([_TWICE[:5] + b"?" + _TWICE[6:]]), "checksum of a block"),
        "a block of nothing": (table([b"\0\0\0\0\0"]), "behind its end|damaged|behind"),
        "a billion files": (table([[(b"", field(1, 10**9))]]), "names no files"),
        "a file that is not there": (table([[(b"", field(1, 2))]]), "is missing"),
    }.values(),
)
def test_an_index_that_is_none(tmp_path, content, told):
    path = write_checkpoint(tmp_path / "x.ckpt", {})
    path.with_name("x.ckpt.index").write_bytes(content)
    with pytest.raises(UserError, match=rf"x\.ckpt: not readable as a TensorFlow checkpoint: .*({told})"):
        ObjectGraph(path)


def test_the_number_of_a_member_has_three_digits(tmp_path):
    names = [f"individual_models/{'1' * digits}/kernel{VALUE}" for digits in (1, 3, 4, 900)]
    graph = ObjectGraph(write_checkpoint(tmp_path / "x.ckpt", dict.fromkeys(names, entry())))
    assert list(graph.shapes) == ["individual_models/1/kernel", "individual_models/111/kernel"]


HEADER = {
    "format": 1, "network": "N23SIMD", "mode": None, "members": 1, "notes": {},
    "model": DecoderSettings().model_dump(mode="json"),
}  # fmt: skip
NPY = npy(np.ones(3, np.float32))
_NAMED = "individual_models/0/kernel.npy"
_SHAPE = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }"
_OBJECT = _SHAPE.replace("<f4", "|O") % "()"


def _bomb(path):
    """An archive whose directory says that a member is 3.9 GB when it is unpacked."""
    member = npy_header(_SHAPE % "(1000000,)", bytes(4 * 10**6))
    content = write_npz(path, {"a.npy": member}, HEADER, zipfile.ZIP_DEFLATED).read_bytes()
    path.write_bytes(content.replace(len(member).to_bytes(4, "little"), (3_900_000_000).to_bytes(4, "little")))
    return path


def _encrypted(path):
    content = write_npz(path, {_NAMED: NPY}, HEADER).read_bytes()
    path.write_bytes(content.replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\x01\0"))
    return path


def _truncated(path):
    content = write_npz(path, {_NAMED: NPY}, HEADER).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def _plain(path):
    path.write_bytes(NPY)
    return path


def _twice(path):
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "w") as archive:
        for _ in range(2):
            archive.writestr("a.npy", NPY)
    return path


def _changed(path):
    content = write_npz(path, {_NAMED: NPY}, HEADER).read_bytes()
    path.write_bytes(content.replace(NPY[-12:], bytes(12)))
    return path


@pytest.mark.parametrize(
    ("write", "told"),
    {
        "a bomb": (_bomb, "claim to be 3,9"),
        "a shape that is not there": (lambda p: write_npz(p, {"a.npy": npy_header(_SHAPE % "(10**12,)")}), "."),
        "a billion numbers": (lambda p: write_npz(p, {"a.npy": npy_header(_SHAPE % "(1000000000,)")}), "in .* bytes"),
        "a negative side": (lambda p: write_npz(p, {"a.npy": npy_header(_SHAPE % "(-4, -5)", bytes(80))}), "no array"),
        "brackets in brackets": (lambda p: write_npz(p, {"a.npy": npy_header("(" * 60_000)}), "."),
        "brackets": (lambda p: write_npz(p, {"a.npy": npy_header("(" * 9_000)}), "."),
        "objects": (lambda p: write_npz(p, {"a.npy": npy_header(_OBJECT, b"N.")}), "no array"),
        "a member that is no array": (lambda p: write_npz(p, {"notes.txt": b"hello"}), "is called 'notes.txt'"),
        "a member beside the folder": (lambda p: write_npz(p, {"a\x1b[2J.npy": NPY}), "is called"),
        "a name without end": (lambda p: write_npz(p, {f"{'9' * 5000}.npy": NPY}), "is called"),
        "a name twice": (_twice, "is called"),
        "encrypted": (_encrypted, "is encrypted"),
        "truncated": (_truncated, "not a zip"),
        "plain numbers": (_plain, "not a zip"),
        "no header": (lambda p: write_npz(p, {"a.npy": NPY}), "no header"),
        "a header of numbers": (lambda p: write_npz(p, {"header.json.npy": NPY}), "no header"),
        "a header in itself": (lambda p: write_npz(p, {"header.json.npy": npy(np.full(10**5, 91, np.uint8))}), "."),
    }.values(),
)  # fmt: skip
def test_an_archive_that_is_no_checkpoint(tmp_path, write, told):
    path = write(tmp_path / "ensemble.npz")
    for opened in (checkpoint.restore, npz_archive.read_header):
        with pytest.raises(UserError, match=rf"ensemble\.npz: not readable as a checkpoint: .*{told}"):
            opened(path)
    with pytest.raises(UserError, match=r"ensemble\.npz: not a subject's result"):
        read_subject_file(path)


def test_a_checkpoint_whose_values_changed(tmp_path):
    path = _changed(tmp_path / "state.npz")
    with pytest.raises(UserError, match=r"state\.npz: not readable as a checkpoint: .*CRC"):
        npz_archive.read_arrays(path)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"members": 10**9}, "holds members 0, the network has 1000000000 of them"),
        ({"members": 2}, "holds members 0, the network has 2 of them"),
        ({"model": HEADER["model"] | {"d_model": 10**9}}, "less than or equal to 1024"),
        ({"model": HEADER["model"] | {"sleep_encoder": {"depth": 10**6, "heads": 1, "ffn": 1}}}, "64"),
        ({"model": HEADER["model"] | {"stem": {"dilations": [1] * 10**5}}}, "64"),
        ({"model": HEADER["model"] | {"sleep_samples": 10**9}}, "50000"),
    ],
)
def test_a_header_that_asks_for_more_than_the_file_holds(tmp_path, changed, told):
    path = write_npz(tmp_path / "ensemble.npz", {_NAMED: NPY}, HEADER | changed)
    with pytest.raises(UserError, match=rf"ensemble\.npz.*{told}"):
        checkpoint.restore(path)
