"""TFRecord files of the published layout: a writer, and a reader with random access.

A TFRecord file is a chain of records: length (uint64), its checksum (uint32), the payload, its checksum (uint32).
Each payload is a `tf.train.Example` whose values are serialised tensors. The reader scans the chain once, checking
every length, and then reads single records, checking every payload it reads; a file is never loaded whole.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from google_crc32c import value as crc32c

from sleep_interpreter.data.formats import protobuf
from sleep_interpreter.data.formats.validation import card_remark
from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.core.data_card import DataCard
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.paths import atomic_write, display_path
from sleep_interpreter.utils.core.provenance import MARK
from sleep_interpreter.utils.core.safe_pickle import HOW_TO_SIMULATE
from sleep_interpreter.utils.core.tensorflow_import import import_tensorflow

STAGING_SAMPLES = 15000


class Field(NamedTuple):
    """Shape and type of one tensor of a record, and what a refusal says of where the shape comes from."""

    shape: tuple[int, ...]
    dtype: type
    remark: str = ""


Schema = dict[str, Field]
Record = dict[str, np.ndarray]


def sleep_schema(card: DataCard) -> Schema:
    """Return the fields of a sleep trial without awake trials (`sleep*`)."""
    remark = card_remark(card)
    return {
        "category_name": Field((len(card.items),), np.float32, remark),
        "feature_Sleep_EEG": Field(card.sleep_shape, np.float32, remark),
    }


def whole_schema(card: DataCard) -> Schema:
    """Return the fields of a sleep trial with the awake trials of the same item that there are (`Whole*`)."""
    awake = Field((card.awake_per_sleep, *card.awake_shape), np.float32, card_remark(card))
    return {**sleep_schema(card), **{f"feature_awake_{kind}_erp": awake for kind in card.awake_kinds}}


STAGING: Schema = {
    "category_name": Field((len(STAGES),), np.float32),
    "feature_label": Field((1,), np.int32),
    "feature_data": Field((3, STAGING_SAMPLES), np.float32),
}
"""Staging windows: one-hot stage, stage code, EEG, EOG and EMG."""

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_TYPED = {"float32": "float_val", "int32": "int_val"}  # where a tensor holds its values when they are not raw bytes


class RecordFile:
    """Random access to the records of one TFRecord file, whose tensors are those of a schema.

    Refuses a missing file, and one with a record whose length fails its checksum or that runs past the end (damaged,
    truncated, or no TFRecord). With `partial` the records before such a damage are read, and `damage` says what is
    wrong with the record after them.
    """

    def __init__(self, path: str | Path, schema: Schema, partial: bool = False) -> None:
        self.path = Path(path)
        self.schema = schema
        self._offsets, self._lengths, self.damage = _scan(self.path)
        if self.damage and not partial:
            raise UserError(f"{self.where(len(self))}: {self.damage}")

    def __len__(self) -> int:
        return len(self._offsets)

    def where(self, index: int) -> str:
        """Return the name of a record for messages: file and record number, counted from 0."""
        return f"{display_path(self.path)}, record {index}"

    def size(self, index: int) -> int:
        """Return the bytes that a record takes in the file."""
        return int(self._lengths[index]) + _HEADER.size + _FOOTER.size

    def payload(self, index: int) -> bytes:
        """Return the serialised `tf.train.Example` of a record; refuse one that fails its checksum or was cut off."""
        length = int(self._lengths[index])
        with self.path.open("rb") as handle:
            handle.seek(self._offsets[index])
            stored = handle.read(length + _FOOTER.size)
        if len(stored) != length + _FOOTER.size:
            raise UserError(f"{self.where(index)}: the file has become shorter while it was being read")
        payload = stored[:length]
        if masked_checksum(payload) != _FOOTER.unpack(stored[length:])[0]:
            raise UserError(
                f"{self.where(index)}: the record's content fails its checksum; the file is damaged, get it again"
            )
        return payload

    def is_marked(self, index: int) -> bool:
        """Tell whether a record is marked as simulated, without reading its tensors."""
        value = self._feature(index, MARK)
        return value is not None and value[-1:] not in (b"", b"\0")  # the one number in it ends it

    def _feature(self, index: int, name: str) -> bytes | None:
        with self.path.open("rb") as handle:
            handle.seek(self._offsets[index])
            return protobuf.find_feature(handle, int(self._lengths[index]), name)

    def peek(self, index: int, name: str) -> np.ndarray:
        """Read one small tensor as `read` does, without the rest of the record; its checksum is not verified."""
        try:
            values = import_tensorflow().train.Feature.FromString(self._feature(index, name) or b"").bytes_list.value
        except DecodeError:
            values = ()
        if len(values) != 1:
            return self.read(index, [name])[name]  # whatever is wrong or unusual is found there
        return self._decode(values[0], f"{self.where(index)}, field {name!r}", self.schema[name], None)

    def read(self, index: int, fields: Iterable[str] | None = None, trial: int | None = None) -> Record:
        """Read tensors of one record, counted from 0: `fields`, or all of the schema.

        They have the schema's shapes and types, and most are read-only. With `trial` only this one of the trials of an
        awake field is taken, so (15, 55, 80) comes as (55, 80). A field that is missing or has another shape or
        type is refused, naming file, record and field.
        """
        try:
            feature = import_tensorflow().train.Example.FromString(self.payload(index)).features.feature
        except DecodeError:
            raise UserError(f"{self.where(index)}: not a tf.train.Example; get the file again") from None
        return {name: self._tensor(index, feature, name, trial) for name in (self.schema if fields is None else fields)}

    def _tensor(self, index: int, feature: Any, name: str, trial: int | None) -> np.ndarray:
        where = f"{self.where(index)}, field {name!r}"
        if name not in feature:
            close = nearest(name, feature, 1)
            raise UserError(
                f"{where}: missing; the record holds {', '.join(sorted(feature)) or 'nothing'}"
                + (f" (the nearest is {close[0]!r})" if close else "")
            )
        values = feature[name].bytes_list.value
        if len(values) != 1:
            raise UserError(f"{where}: expected one serialised tensor, found {len(values)} byte strings")
        return self._decode(values[0], where, self.schema[name], trial)

    @staticmethod
    def _decode(serialised: bytes, where: str, expected: Field, trial: int | None) -> np.ndarray:
        """Return the array (of one awake trial of 15) that a serialised tensor holds."""
        import_tensorflow()  # quietly, which the next line would not be
        from tensorflow.core.framework.tensor_pb2 import TensorProto  # lazy: start-up

        try:
            proto = TensorProto.FromString(serialised)
        except DecodeError:
            raise UserError(f"{where}: not a serialised tensor") from None
        shape = tuple(d.size for d in proto.tensor_shape.dim)
        if proto.tensor_shape.unknown_rank or shape != expected.shape:
            remark = f"; {expected.remark}" if expected.remark else ""
            raise UserError(f"{where}: expected shape {expected.shape}, found {shape}{remark}")
        dtype = np.dtype(expected.dtype)
        try:
            found = import_tensorflow().as_dtype(proto.dtype).name
        except TypeError:
            found = f"unknown type {proto.dtype}"
        if found != dtype.name:
            raise UserError(f"{where}: expected {dtype.name}, found {found}")
        content, size = proto.tensor_content, int(np.prod(shape))
        if not content:
            # A tiny tensor may be stored as typed values, a constant one as a single value.
            typed = getattr(proto, _TYPED[dtype.name])
            if len(typed) not in (1, size):
                raise UserError(
                    f"{where}: expected {size} values for shape {shape} (or one for all), found {len(typed)}"
                )
            values = np.array(typed, dtype) if len(typed) == size else np.full(size, typed[0], dtype)
        elif len(content) != size * dtype.itemsize:
            raise UserError(f"{where}: expected {size * dtype.itemsize} bytes for shape {shape}, found {len(content)}")
        else:
            values = np.frombuffer(content, dtype)
        values = values.reshape(shape)
        # A copy, since a view would keep all 15 in memory.
        return values[trial].copy() if trial is not None and len(shape) == 3 else values


def masked_checksum(content: bytes) -> int:
    """Return the CRC-32C of bytes, rotated and offset as TFRecord files store it (their format's rule)."""
    crc = crc32c(content)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def is_tfrecord(path: str | Path) -> bool:
    """Tell whether a file begins as a TFRecord: with a length that matches its checksum."""
    with Path(path).open("rb") as handle:
        header = handle.read(_HEADER.size)
    return len(header) == _HEADER.size and masked_checksum(header[:8]) == _HEADER.unpack(header)[1]


def write_records(path: str | Path, schema: Schema, records: Iterable[Record], simulated: bool = False) -> int:
    """Write a TFRecord file, complete or not at all; return the number of records.

    Each has every field of the schema (`whole_schema`, `sleep_schema`, `STAGING`) and no other, or a `ValueError` is
    raised; a `UserError` if the file cannot be written. `simulated` marks every record (`utils.core.provenance.MARK`);
    readers that ask for fields ignore it.
    """
    tf = import_tensorflow()
    count = 0
    try:
        with atomic_write(path) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
            for record in records:
                writer.write(_example(record, schema, f"{display_path(path)}, record {count}", simulated))
                count += 1
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"{path}: cannot be written ({error})") from None
    return count


def _example(record: Record, schema: Schema, where: str, simulated: bool) -> bytes:
    tf = import_tensorflow()
    if set(record) != set(schema):
        raise ValueError(f"{where}: expected the fields {sorted(schema)}, found {sorted(record)}")
    features = {}
    for name, (shape, dtype, _) in schema.items():
        array = np.ascontiguousarray(record[name])
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"{where}, field {name!r}: expected {np.dtype(dtype).name} {shape}, found {array.dtype} {array.shape}"
            )
        value = tf.io.serialize_tensor(array).numpy()
        features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if simulated:
        features[MARK] = tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def _scan(path: Path) -> tuple[np.ndarray, np.ndarray, str | None]:
    """Return the payloads' offsets and lengths, two int64 arrays, and what ended the scan early or None."""
    offsets, lengths, damage = [], [], None
    try:
        with path.open("rb") as handle:
            size, position = handle.seek(0, 2), 0
            while position < size:
                handle.seek(position)
                header = handle.read(_HEADER.size)
                complete = len(header) == _HEADER.size
                length, checksum = _HEADER.unpack(header) if complete else (0, 0)
                if complete and masked_checksum(header[:8]) != checksum:
                    damage = (
                        "the record's length fails its checksum; the file is damaged from here on or not a TFRecord"
                    )
                    break
                end = position + _HEADER.size + length + _FOOTER.size
                if not complete or end > size:
                    damage = f"the record runs past the end of the file ({size} bytes); the file is truncated"
                    break
                offsets.append(position + _HEADER.size)
                lengths.append(length)
                position = end
    except FileNotFoundError:
        raise UserError(f"{path}: file not found; {HOW_TO_SIMULATE}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return np.array(offsets, np.int64), np.array(lengths, np.int64), damage and f"{damage}, get it again"
