"""TFRecords: round trip, random access, agreement with TensorFlow's own reader, refusals."""

import io

import numpy as np
import pytest

from sleep_interpreter.data.formats import protobuf
from sleep_interpreter.data.formats.tfrecords import (
    Field,
    RecordFile,
    is_tfrecord,
    sleep_schema,
    whole_schema,
    write_records,
)
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError

SLEEP = sleep_schema(published())
WHOLE = whole_schema(published())


def _records(count, schema=WHOLE):
    rng = np.random.default_rng(3)
    return [
        {name: rng.standard_normal(shape).astype(dtype) for name, (shape, dtype, _) in schema.items()}
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("records") / "Whole_subject_3.tfrecord"
    records = _records(3)
    assert write_records(path, WHOLE, records) == 3
    return path, records


def test_round_trip_in_any_order(written):
    path, records = written
    file = RecordFile(path, WHOLE)
    assert len(file) == 3
    for index in (2, 0, 1, 2):
        read = file.read(index)
        for name, (shape, dtype, _) in WHOLE.items():
            assert read[name].shape == shape
            assert read[name].dtype == dtype
            assert np.array_equal(read[name], records[index][name])


def test_one_awake_trial_of_fifteen(written):
    path, records = written
    for trial in (0, 7, 14):
        read = RecordFile(path, WHOLE).read(1, trial=trial)
        for name in ("feature_awake_image_erp", "feature_awake_audio_erp"):
            assert np.array_equal(read[name], records[1][name][trial])
        assert np.array_equal(read["feature_Sleep_EEG"], records[1]["feature_Sleep_EEG"])


def test_only_the_fields_asked_for(written):
    assert set(RecordFile(written[0], WHOLE).read(0, fields=["category_name"])) == {"category_name"}


def test_tensorflow_reads_what_is_written_and_checks_its_checksums(written):
    import tensorflow as tf

    path, records = written
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in WHOLE}
    found = list(tf.data.TFRecordDataset(str(path)))
    assert len(found) == 3
    for payload, record in zip(found, records, strict=True):
        parsed = tf.io.parse_single_example(payload, features)
        for name in WHOLE:
            assert np.array_equal(tf.io.parse_tensor(parsed[name], tf.float32).numpy(), record[name])


@pytest.mark.parametrize("compact", [False, True])
def test_files_that_tensorflow_wrote_are_read(tmp_path, compact):
    import tensorflow as tf

    record = _records(1, SLEEP)[0]
    if compact:  # a constant tensor may be stored as one typed value instead of raw bytes
        record["feature_Sleep_EEG"] = np.full((55, 200), 2.5, np.float32)
    serialised = {name: tf.io.serialize_tensor(value).numpy() for name, value in record.items()}
    if compact:
        proto = tf.make_tensor_proto(2.5, tf.float32, (55, 200))
        assert not proto.tensor_content
        serialised["feature_Sleep_EEG"] = proto.SerializeToString()
    path = tmp_path / "sleep.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(_example(serialised))
    read = RecordFile(path, SLEEP).read(0)
    for name in SLEEP:
        assert np.array_equal(read[name], record[name])


def test_same_records_give_same_bytes(written, tmp_path):
    again = tmp_path / "again.tfrecord"
    write_records(again, WHOLE, _records(3))
    assert again.read_bytes() == written[0].read_bytes()


def _changed(written, tmp_path, place):
    """Copy the file with one bit turned; places count within record 1."""
    content = bytearray(written[0].read_bytes())
    content[len(content) // 3 + place] ^= 4
    path = tmp_path / "damaged.tfrecord"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("place", [0, 7, 8, 11])
def test_damaged_length_is_found_at_once(written, tmp_path, place):
    path = _changed(written, tmp_path, place)
    with pytest.raises(UserError, match=r"damaged\.tfrecord, record 1: .*length fails its checksum"):
        RecordFile(path, WHOLE)
    file = RecordFile(path, WHOLE, partial=True)
    assert len(file) == 1
    assert "checksum" in file.damage
    assert np.array_equal(file.read(0)["category_name"], written[1][0]["category_name"])


@pytest.mark.parametrize("place", [12, 40, 1000, -5, -1])
def test_damaged_content_is_found_when_it_is_read(written, tmp_path, place):
    size = written[0].stat().st_size // 3
    file = RecordFile(_changed(written, tmp_path, place % size), WHOLE)
    assert len(file) == 3
    file.read(0), file.read(2)
    for read in (file.read, file.payload):
        with pytest.raises(UserError, match=r"damaged\.tfrecord, record 1: .*content fails its checksum"):
            read(1)


def test_whole_files_have_no_damage(written):
    assert RecordFile(written[0], WHOLE, partial=True).damage is None


def test_is_tfrecord(written, tmp_path):
    assert is_tfrecord(written[0])
    for content in (b"", b"\x80\x04short", b"a text that is long enough"):
        (tmp_path / "other").write_bytes(content)
        assert not is_tfrecord(tmp_path / "other")


def test_labels_are_read_without_the_rest(written, monkeypatch):
    monkeypatch.setattr(RecordFile, "payload", None)
    for index, record in enumerate(written[1]):
        label = RecordFile(written[0], WHOLE).peek(index, "category_name")
        assert np.array_equal(label, record["category_name"])


@pytest.mark.parametrize("order", [["b", "category_name"], ["category_name", "zz"]])
def test_labels_are_found_in_any_order_of_features(tmp_path, order):
    """A protocol buffer keeps no order; the features are joined byte by byte here."""
    import tensorflow as tf

    serialised = tf.io.serialize_tensor(np.eye(15, dtype=np.float32)[4]).numpy()
    one = [_example({name: serialised if name == "category_name" else b"x" * 3000}) for name in order]
    parts = [tf.train.Example.FromString(part).features.SerializeToString() for part in one]
    joined = b"".join(parts)
    length, size = bytearray(), len(joined)
    while size:
        length.append((size & 127) | (128 if size > 127 else 0))
        size >>= 7
    payload = b"\x0a" + bytes(length) + joined
    assert set(tf.train.Example.FromString(payload).features.feature) == set(order)
    path = tmp_path / "x.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(payload)
    file = RecordFile(path, SLEEP)
    assert protobuf.find_feature(io.BytesIO(payload), len(payload), "category_name")
    assert file.peek(0, "category_name").argmax() == 4


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\xff" * 30, "not a tf.train.Example"),
        ({"feature_Sleep_EEG": b""}, "field 'category_name': missing"),
        ({"category_name": b"\xff"}, "field 'category_name': not a serialised tensor"),
    ],
)
def test_labels_that_cannot_be_read_are_named(tmp_path, payload, message):
    import tensorflow as tf

    path = tmp_path / "x.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(payload if isinstance(payload, bytes) else _example(payload))
    with pytest.raises(UserError, match=rf"x\.tfrecord, record 0.*{message}"):
        RecordFile(path, SLEEP).peek(0, "category_name")


def _odd(**values):
    """Return a tensor (15,) of float32 that holds its values in an unusual way."""
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    proto = TensorProto(dtype=values.pop("dtype", 1), **values)
    proto.tensor_shape.dim.add(size=15)
    return proto.SerializeToString()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"expected 15 values for shape \(15,\) \(or one for all\), found 0"),
        ({"float_val": [0.0, 1.0]}, "found 2"),
        ({"float_val": [0.0] * 16}, "found 16"),
        ({"half_val": [0] * 15}, "found 0"),
        ({"double_val": [0.0] * 15}, "found 0"),
        ({"int_val": [1] * 15}, "found 0"),
        ({"half_val": [0] * 15, "dtype": 19}, "expected float32, found float16"),
        ({"dtype": 9999}, "expected float32, found unknown type 9999"),
        ({"tensor_content": b"123"}, r"expected 60 bytes for shape \(15,\), found 3"),
    ],
)
def test_odd_tensors_are_refused_by_field(tmp_path, values, message):
    import tensorflow as tf

    path = tmp_path / "odd.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(_example({"category_name": _odd(**values)}))
    for read in (lambda f: f.read(0, ["category_name"]), lambda f: f.peek(0, "category_name")):
        with pytest.raises(UserError, match=rf"odd\.tfrecord, record 0, field 'category_name': .*{message}"):
            read(RecordFile(path, SLEEP))


@pytest.mark.parametrize(("values", "expected"), [([2.0], [2.0] * 15), (list(range(15)), list(range(15)))])
def test_typed_values_are_read_when_they_are_all_or_one(tmp_path, values, expected):
    import tensorflow as tf

    path = tmp_path / "typed.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(_example({"category_name": _odd(float_val=values)}))
    assert RecordFile(path, SLEEP).read(0, ["category_name"])["category_name"].tolist() == expected


@pytest.mark.parametrize("lost", [1, 4, 5, 1000])
def test_truncated_file_names_the_record(written, tmp_path, lost):
    path = tmp_path / "short.tfrecord"
    path.write_bytes(written[0].read_bytes()[:-lost])
    with pytest.raises(UserError, match=r"short\.tfrecord, record 2: .*truncated"):
        RecordFile(path, WHOLE)


def test_file_that_is_no_tfrecord(tmp_path):
    path = tmp_path / "text.tfrecord"
    path.write_text("no records in here, only a sentence", encoding="utf-8")
    with pytest.raises(UserError, match=r"text\.tfrecord, record 0: .*not a TFRecord"):
        RecordFile(path, WHOLE)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"absent: file not found.*simulate"):
        RecordFile(tmp_path / "absent", WHOLE)


@pytest.mark.parametrize(
    ("field", "shape", "dtype", "message"),
    [
        ("feature_Sleep_EEG", (64, 200), np.float32, r"expected shape \(55, 200\), found \(64, 200\)"),
        ("feature_Sleep_EEG", (200, 55), np.float32, r"expected shape \(55, 200\), found \(200, 55\)"),
        ("feature_Sleep_EEG", (55, 200), np.float64, "expected float32, found float64"),
        ("category_name", (14,), np.float32, r"expected shape \(15,\), found \(14,\)"),
    ],
)
def test_wrong_shape_or_type_names_file_record_and_field(tmp_path, field, shape, dtype, message):
    path = tmp_path / "sleep_wrong.tfrecord"
    schema = {**SLEEP, field: Field(shape, dtype)}
    write_records(path, schema, _records(2, schema))
    with pytest.raises(UserError, match=rf"sleep_wrong\.tfrecord, record 1, field '{field}': {message}"):
        RecordFile(path, SLEEP).read(1)


def test_missing_field_names_the_nearest(tmp_path):
    path = tmp_path / "sleep.tfrecord"
    schema = {"category_name": SLEEP["category_name"], "feature_sleep": SLEEP["feature_Sleep_EEG"]}
    write_records(path, schema, _records(1, schema))
    with pytest.raises(UserError, match=r"'feature_Sleep_EEG': missing.*nearest is 'feature_sleep'"):
        RecordFile(path, SLEEP).read(0)


@pytest.mark.parametrize("payload", [b"\xff\xff\xff", {"category_name": b"\xff", "feature_Sleep_EEG": b""}])
def test_payload_that_is_garbage(tmp_path, payload):
    import tensorflow as tf

    path = tmp_path / "garbage.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(payload if isinstance(payload, bytes) else _example(payload))
    with pytest.raises(UserError, match=r"garbage\.tfrecord, record 0.*not a"):
        RecordFile(path, SLEEP).read(0)


@pytest.mark.parametrize("change", [{"extra": np.zeros(1)}, {"category_name": np.zeros(15)}])
def test_writer_refuses_records_off_the_schema(tmp_path, change):
    path = tmp_path / "sleep.tfrecord"
    with pytest.raises(ValueError, match=r"sleep\.tfrecord, record 0"):
        write_records(path, SLEEP, [_records(1, SLEEP)[0] | change])
    assert not list(tmp_path.iterdir())


def _example(serialised):
    import tensorflow as tf

    feature = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for name, value in serialised.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
