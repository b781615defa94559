"""Released checkpoints: ensembles in TensorFlow's format under every published name, opened as they are."""

import json
import logging
import runpy
import shutil
import zlib
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml

from sleep_interpreter.model import registry
from sleep_interpreter.model.checkpoints import checkpoint, convert, released, tf_checkpoint
from sleep_interpreter.utils import model as trained_networks
from sleep_interpreter.utils.core import command_line, config
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path

ROOT = Path(__file__).resolve().parents[2]
ROWS = [pytest.param(row, id=f"{row.network}-{row.mode}") for row in registry.PUBLISHED]
SIMD, RETRAINED, SISD, REM_SIMD, REM_SISD, STAGING = registry.PUBLISHED
LONG = [pytest.param(*row.values, id=row.id, marks=pytest.mark.slow) for row in ROWS[2:]]
MEMBERS = {"SIStaging": 6}
THIS, BUT = "this is N23SIMD in", "expected"


@pytest.fixture(scope="module")
def narrow_params(tmp_path_factory):
    """params/ with all layers of the published networks, but narrow ones: every name, few numbers."""
    folder = tmp_path_factory.mktemp("narrow") / "params"
    shutil.copytree(ROOT / "params", folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))

    def narrow(name, **model):
        tree = yaml.safe_load((folder / name).read_text())
        tree["model"] |= model
        (folder / name).write_text(yaml.safe_dump(tree))

    narrow(
        "_decoder.yaml", d_model=8, head_size=2, features=4, class_hidden=4, channels=3,
        stem={"filters": 4, "dense": 4}, projections={"awake": 2, "sleep": 2, "memory": 5},
        sleep_encoder={"depth": 12, "heads": 6, "ffn": 10},
        image_encoder={"depth": 3, "heads": 3, "ffn": 6}, audio_encoder={"depth": 5, "heads": 5, "ffn": 6},
    )  # fmt: skip
    for name in ("REMSIMD.yaml", "REMSISD.yaml"):
        narrow(name, sleep_encoder={"ffn": 20})
    narrow(
        "SIStaging.yaml", samples=3000, branch_filters=2, block_filters=3, map_filters=70, lstm=4,
        series_filters=[5, 4, 3], pool_filters=[3, 2], dense=3,
    )  # fmt: skip
    return folder


NARROW_SHAPES = cache(released.published_shapes.__wrapped__)


@pytest.fixture
def small(narrow_params, monkeypatch):
    """The published networks are narrow ones in this test."""
    for module in (registry, config):
        monkeypatch.setattr(module, "PARAMS", narrow_params)
    monkeypatch.setattr(released, "published_shapes", NARROW_SHAPES)


def member(row, index=0):
    """Return {name: array} of one member, different for every name and member."""
    result = {}
    for name, shape in released.published_shapes(row.network, row.mode).items():
        random = np.random.default_rng([index, zlib.crc32(name.encode())])
        result[name] = random.standard_normal(shape, np.float32)
    return result


def ensemble(row, indices=None):
    indices = range(MEMBERS.get(row.network, 5)) if indices is None else indices
    return {index: member(row, index) for index in indices}


def node(names):
    """Return nested objects whose attributes are called as the parts of {"a/b/c": variable}."""
    made = tf.Module()
    for name, value in names.items():
        *parents, leaf = name.split("/")
        place = made
        for part in parents:
            if not hasattr(place, part):
                setattr(place, part, tf.Module())
            place = getattr(place, part)
        setattr(place, leaf, value)
    return made


def write_original(path, members, under=None):
    """Write a checkpoint as the original does: an object graph, with optimizer slots and a save counter.

    A list of members where their numbers have no gaps, otherwise objects called so.
    """
    variables = {i: {n: tf.Variable(a) for n, a in names.items()} for i, names in members.items()}
    first = next(iter(variables))
    some = list(variables[first])[:2]
    optimizer = tf.compat.v1.train.AdamOptimizer()
    optimizer.apply_gradients([(tf.ones_like(variables[first][n]), variables[first][n]) for n in some])
    for name in some:
        variables[first][name].assign(members[first][name])
    models = {str(i): node(names) for i, names in variables.items()}
    if list(models) == [str(i) for i in range(len(models))]:
        models = list(models.values())
    else:
        holder = tf.Module()
        for index, made in models.items():
            setattr(holder, index, made)
        models = holder
    root = {"individual_models": models}
    for part in reversed(under.split("/") if under else ()):
        inner = tf.Module()
        for name, value in root.items():
            setattr(inner, name, value)
        root = {part: inner}
    saved = tf.train.Checkpoint(**root, optimizer=optimizer)
    assert saved.save_counter.numpy() == 0
    path.parent.mkdir(parents=True, exist_ok=True)
    saved.write(str(path))
    keys = [name for name, _ in tf.train.list_variables(str(path))]
    assert any("/.OPTIMIZER_SLOT/" in key for key in keys) and "_CHECKPOINTABLE_OBJECT_GRAPH" in keys
    assert any(key.startswith("save_counter/") for key in keys) and any(k.startswith("optimizer/") for k in keys)
    assert any(key.startswith(f"{under + '/' if under else ''}individual_models/{first}/") for key in keys)
    return path


def values(network):
    return {name: variable.numpy() for name, variable in checkpoint.ensemble_variables(network).items()}


def assert_holds(network, members):
    found = values(network)
    expected = {
        f"individual_models/{place}/{name}": array
        for place, names in enumerate(members)
        for name, array in names.items()
    }
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


# The table


def test_the_table_has_every_network_and_mode_once():
    found = {(row.network, row.mode) for row in registry.PUBLISHED}
    known = set()
    for name in set(registry.names()) - {"EEGNet"}:  # of which nothing is released
        modes = config.read_yaml(ROOT / "params" / f"{name}.yaml").get("modes", {})
        known |= {(name, mode) for mode in ("normal", *modes)}
    assert found == known and len(registry.PUBLISHED) == len(found)
    for part in ("run", "stems"):
        assert len({getattr(row, part) for row in registry.PUBLISHED}) == len(found)
    files = [file for row in registry.PUBLISHED for file in row.files]
    assert len(set(files)) == len(files)
    assert {
        "N2N3_SIMD.ckpt", "N2N3_SIMD_model.ckpt", "N23_SIMD_model.ckpt", "N2N3_SIMD_Retrained.ckpt",
        "N2N3_SISD.ckpt", "REM_SIMD.ckpt", "REM_SIMD_model.ckpt", "REM_SISD.ckpt", "Staging_model.ckpt",
    } <= set(files)  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_names_and_shapes_are_those_of_the_released_files(row):
    """The manifests list what stands in the released checkpoints."""
    key = row.network if row.mode == "normal" else f"{row.network}_{row.mode}"
    manifest = json.loads((ROOT / "tests" / "model" / "golden" / "figures" / f"{key}.manifest.json").read_text())
    assert {n: list(s) for n, s in released.published_shapes(row.network, row.mode).items()} == manifest
    assert registry.published_settings(row.network, row.mode)[1] == MEMBERS.get(row.network, 5)


def test_run_folders():
    assert trained_networks.run_folder(Path("r"), "N23SIMD", "retrained") == Path(
        "r/Decoding checkpoint/N2N3_SIMD_Retrained"
    )
    assert trained_networks.run_folder(Path("r"), "REMSIMD", finetune=True) == Path(
        "r/Decoding checkpoint/REM_SIMD_finetune"
    )
    assert trained_networks.run_folder(Path("r"), "SIStaging") == Path("r/Staging checkpoint/SIStaging")
    assert trained_networks.run_folder(Path("r"), "Mine") == Path("r/Decoding checkpoint/Mine")


# Whole ensembles


@pytest.mark.parametrize("row", [*ROWS[:2], *LONG])
def test_a_released_ensemble_is_found_and_restored(row, small, tmp_path, caplog):
    """All published members of two networks, two members of the others."""
    members = ensemble(row, None if row in (SISD, STAGING) else [0, 1])
    folder = tmp_path / "data" / "Model checkpoint" / row.folder
    path = write_original(folder / row.files[0], members)
    for name in row.files:
        for file in folder.iterdir():
            file.rename(folder / file.name.replace(path.name, name))
        path = folder / name
        found = trained_networks.find_checkpoint(tmp_path / "results", row.network, row.mode, tmp_path / "data")
        assert found == path
    network = checkpoint.restore(found, row.network, row.mode)
    assert (network.network, network.mode or "normal") == (row.network, row.mode)
    assert network.notes["members_found"] == list(members) and network.notes["released"] is True
    assert_holds(network, members.values())
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (0 if row in (SISD, STAGING) else 1)
    assert all("2 complete members (0, 1) of the 5" in text for text in said)


def test_what_was_trained_here_comes_first(tmp_path):
    results, data = tmp_path / "results", tmp_path / "data"
    with pytest.raises(UserError) as caught:
        trained_networks.find_checkpoint(results, "N23SIMD", "retrained", data)
    with pytest.raises(
        UserError, match=r"EEGNet: .*ensemble\.npz is not there \(made by `python train/network.py EEGNet`\)"
    ):
        trained_networks.find_checkpoint(results, "EEGNet", None, data)
    for word in (
        "no checkpoint of N23SIMD", "N2N3_SIMD_Retrained/ensemble.npz", "N2N3_SIMD_Retrained.ckpt",
        "python train/N23SIMD.py --mode retrained", display_path(data / "Model checkpoint" / "Decoding"),
    ):  # fmt: skip
        assert word in str(caught.value)
    folder = data / "Model checkpoint" / "Decoding"
    folder.mkdir(parents=True)
    for name in ("N2N3_SIMD.ckpt.index", "N2N3_SIMD_model.ckpt.index"):
        (folder / name).touch()
    assert trained_networks.find_checkpoint(results, "N23SIMD", None, data) == folder / "N2N3_SIMD.ckpt"
    trained = trained_networks.run_folder(results, "N23SIMD") / "ensemble.npz"
    trained.parent.mkdir(parents=True)
    trained.touch()
    assert trained_networks.find_checkpoint(results, "N23SIMD", None, data) == trained


@pytest.mark.parametrize(
    "left",
    [
        "settings.yaml", "run.json", "before_restart/ensemble.npz", "ensemble_2x1_epochs.npz", "run_member_1.json",
        ".member_0.lock", "member_0.npz", "tensorboard/member_0/events.1",
    ],
)  # fmt: skip
@pytest.mark.parametrize(("network", "mode"), [("N23SIMD", None), ("SIStaging", None), ("N23SIMD", "retrained")])
def test_a_released_one_never_stands_in_for_an_unfinished_training(left, network, mode, tmp_path):
    results, row = tmp_path / "results", registry.published_network(network, mode)
    released_one = tmp_path / "data" / "Model checkpoint" / row.folder / f"{row.files[0]}.index"
    released_one.parent.mkdir(parents=True)
    released_one.touch()
    path = trained_networks.run_folder(results, network, mode) / left
    path.parents[left.count("/")].mkdir(parents=True)
    (path.parents[left.count("/")] / "notes.txt").touch()  # nothing of a training's
    find = partial(trained_networks.find_checkpoint, results, network, mode, tmp_path / "data")
    assert find() == released_one.with_suffix("")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with pytest.raises(UserError, match=r"no ensemble\.npz: the training is unfinished; go on with") as caught:
        find()
    assert ("before_restart/ensemble.npz)" in str(caught.value)) == ("before" in left)


def test_half_copied_checkpoints_say_which_file_is_missing(small, tmp_path):
    path = write_original(tmp_path / "Model checkpoint" / "Decoding" / "REM_SISD.ckpt", {0: member(REM_SISD)})
    index, data = Path(f"{path}.index"), Path(f"{path}.data-00000-of-00001")
    hidden = index.rename(tmp_path / "hidden")
    assert trained_networks.find_checkpoint(tmp_path, "REMSISD", None, tmp_path) == path
    with pytest.raises(UserError, match=r"REM_SISD\.ckpt\.index is missing; .*data-00000.*copy both"):
        checkpoint.restore(path)
    hidden.rename(index)
    content = data.read_bytes()
    data.unlink()
    with pytest.raises(UserError, match=r"REM_SISD\.ckpt\.data-00000-of-00001 is missing"):
        checkpoint.restore(path)
    data.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"REM_SISD\.ckpt: not readable as a TensorFlow checkpoint"):
        checkpoint.restore(path)


@pytest.mark.slow
def test_fewer_members_than_published(small, tmp_path, caplog):
    members = ensemble(SISD, [0, 2, 4])
    members[3] = dict(list(member(SISD, 3).items())[:7])
    path = write_original(tmp_path / "N2N3_SISD.ckpt", members)
    network = checkpoint.restore(path, "N23SISD")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for words in ("3 complete members (0, 2, 4) of the 5", "incomplete: 3 (7 of 386 variables)"):
        assert words in record.getMessage()
    assert network.notes == {"released": True, "members_found": [0, 2, 4], "members_published": 5}
    assert_holds(network, [members[i] for i in (0, 2, 4)])


def test_no_complete_member(small, tmp_path):
    names = list(member(RETRAINED).items())
    path = write_original(tmp_path / "N2N3_SIMD_Retrained.ckpt", {0: dict(names[:430]), 1: dict(names[:9])})
    with pytest.raises(UserError) as caught:
        checkpoint.restore(path)
    message = str(caught.value)
    assert "most resembles N23SIMD in retrained mode" in message and "member 0 has 430 of 437" in message
    assert "7 missing: " in message and "and 2 more" in message
    assert message.count("kernel") + message.count("bias") <= 6


def test_a_member_with_foreign_variables_is_not_guessed_at(small, tmp_path):
    foreign = {**member(SISD, 1), "strange/kernel": np.zeros(3, np.float32)}
    path = write_original(tmp_path / "N2N3_SISD.ckpt", {0: member(SISD), 1: foreign})
    with pytest.raises(UserError, match="member 1 does not fit N23SISD; 1 unknown: strange/kernel"):
        checkpoint.restore(path)


def test_values_that_are_no_numbers_are_refused(small, tmp_path):
    broken = member(SISD)
    broken["sleep_emb_input/bm/beta"][0] = np.nan
    path = write_original(tmp_path / "N2N3_SISD.ckpt", {0: broken})
    with pytest.raises(UserError, match="1 not finite numbers: individual_models/0/sleep_emb_input/bm/beta"):
        checkpoint.restore(path)


def test_an_untrained_member_is_pointed_out(small, tmp_path, caplog):
    fresh = {
        name: np.full_like(array, float(name.endswith("moving_variance"))) if "moving_" in name else array
        for name, array in member(SISD, 1).items()
    }
    path = write_original(tmp_path / "N2N3_SISD.ckpt", {**ensemble(SISD, [0]), 1: fresh})
    checkpoint.restore(path)
    assert "member 1 holds the initial values of an untrained network" in caplog.text
    assert "member 0 holds" not in caplog.text


@pytest.mark.parametrize("under", ["model", "ensemble/decoder"])
def test_a_prefix_is_taken_off_and_told(under, small, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    members = ensemble(REM_SISD, [0])
    path = write_original(tmp_path / "REM_SISD.ckpt", members, under)
    assert_holds(checkpoint.restore(path), members.values())
    assert f"stands under '{under}'" in caplog.text


def test_two_ensembles_in_one_file_are_ambiguous(small, tmp_path):
    models = [[node({"t": tf.Variable(1.0)})] for _ in range(2)]
    holders = {f"model_{i}": tf.Module() for i in range(2)}
    for holder, model in zip(holders.values(), models, strict=True):
        holder.individual_models = model
    tf.train.Checkpoint(**holders).write(str(tmp_path / "two.ckpt"))
    with pytest.raises(UserError, match=r"two\.ckpt: holds 2 ensembles, under 'model_0', 'model_1'"):
        checkpoint.restore(tmp_path / "two.ckpt")


# Which network it is


@pytest.mark.parametrize(
    ("row", "name", "mode", "sentence"),
    [
        (RETRAINED, "N23SIMD", "normal", f"{THIS} retrained mode, {BUT} normal mode: pass --mode retrained"),
        (SIMD, "N23SIMD", "retrained", f"{THIS} normal mode, {BUT} retrained mode: pass --mode normal"),
        (REM_SIMD, "N23SIMD", "normal", "holds REMSIMD, expected N23SIMD in normal mode"),
        (STAGING, "REMSISD", None, "holds SIStaging, expected REMSISD"),
        (RETRAINED, "N23SIMD", None, None),
    ],
)  # fmt: skip
def test_another_network_is_named_in_one_sentence(row, name, mode, sentence, small, tmp_path):
    """Whatever the file is called, its variables tell."""
    path = write_original(tmp_path / "N2N3_SIMD.ckpt", {0: member(row)})
    if sentence is None:
        assert checkpoint.restore(path, name, mode).mode == row.mode
        return
    with pytest.raises(UserError) as caught:
        checkpoint.restore(path, name, mode)
    assert str(caught.value).endswith(f"N2N3_SIMD.ckpt: {sentence}")
    own = tmp_path / "ensemble.npz"
    convert.convert(path, own)
    with pytest.raises(UserError) as caught:
        checkpoint.restore(own, name, mode)
    assert str(caught.value).endswith(f"ensemble.npz: {sentence}")
    if name == "N23SIMD":
        network = registry.build(name, members=1, mode=mode)
        with pytest.raises(UserError) as caught:
            checkpoint.load_published(network, path)
        assert str(caught.value).endswith(f"N2N3_SIMD.ckpt: {sentence}")


def test_a_misleading_file_name_is_pointed_out(small, tmp_path, caplog):
    path = write_original(tmp_path / "N2N3_SIMD.ckpt", {0: member(RETRAINED)})
    assert checkpoint.restore(path).mode == "retrained"
    assert "called as N23SIMD in normal mode, but its variables are those of N23SIMD in retrained" in caplog.text


def test_any_file_name_will_do(small, tmp_path, caplog):
    network = checkpoint.restore(write_original(tmp_path / "backup-3", {0: member(REM_SIMD)}))
    assert network.network == "REMSIMD" and "called as" not in caplog.text


def test_what_is_of_no_network_is_told(small, tmp_path):
    path = write_original(tmp_path / "x.ckpt", {0: {"a": np.zeros(2, np.float32), "b": np.ones(3, np.float32)}})
    with pytest.raises(UserError, match=r"x\.ckpt: holds no variable of a published network"):
        checkpoint.restore(path)


def test_another_number_of_members(small, tmp_path):
    path = write_original(tmp_path / "REM_SISD.ckpt", ensemble(REM_SISD, [0, 1]))
    with pytest.raises(UserError, match="holds members 0, 1, the network has 1"):
        checkpoint.load_published(registry.build("REMSISD", members=1), path)


# inspect and convert


def command(*arguments):
    main = runpy.run_path(str(ROOT / "model" / "checkpoint.py"))["main"]
    return command_line.run(main, [str(a) for a in arguments])


def contents(path):
    header, arrays = checkpoint.read_arrays(path)
    return header, {name: (array.dtype, array.tobytes()) for name, array in arrays.items()}


@pytest.mark.parametrize("row", [RETRAINED, STAGING], ids=repr)
@pytest.mark.slow
def test_npz_to_tensorflow_and_back_is_bit_identical(row, small, tmp_path, capsys):
    network = registry.build(row.network, members=2, mode=row.mode, classes=3 if row is RETRAINED else 4)
    first, middle, last = tmp_path / "ensemble.npz", tmp_path / "OUT.ckpt", tmp_path / "again.npz"
    checkpoint.save(network, first, simulated=True, training_subjects=["subject_1"])
    assert command("convert", first, middle) == 0
    assert command("convert", middle, last) == 0
    assert contents(first) == contents(last)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [
        "OUT.ckpt.data-00000-of-00001", "OUT.ckpt.index", "again.npz", "ensemble.npz",
    ]  # fmt: skip
    restored = checkpoint.restore(middle, row.network, row.mode)
    assert restored.notes["simulated"] is True and restored.settings == network.settings
    assert "SIMULATED" in capsys.readouterr().out


@pytest.mark.slow
def test_others_can_load_what_is_converted(small, tmp_path):
    """An object graph with the original's names takes its values from the file without a rest."""
    network = registry.build("REMSISD", members=1)
    checkpoint.save(network, tmp_path / "a.npz")
    convert.convert(tmp_path / "a.npz", tmp_path / "REM_SISD.ckpt")
    shapes = released.published_shapes("REMSISD", "normal")
    variables = [{name: tf.Variable(tf.zeros(shape)) for name, shape in shapes.items()}]
    theirs = tf.train.Checkpoint(individual_models=[node(v) for v in variables])
    theirs.read(str(tmp_path / "REM_SISD.ckpt")).assert_existing_objects_matched().expect_partial()
    assert_holds(network, [{name: v.numpy() for name, v in each.items()} for each in variables])


def test_released_to_npz(small, tmp_path, capsys):
    members = ensemble(REM_SIMD, [0])
    path = write_original(tmp_path / "REM_SIMD_model.ckpt", members)
    assert command("convert", f"{path}.index", tmp_path / "rem.npz") == 0
    network = checkpoint.restore(tmp_path / "rem.npz", "REMSIMD")
    assert network.notes["released"] is True
    assert_holds(network, members.values())


@pytest.mark.slow
def test_convert_refuses(small, tmp_path, capsys, monkeypatch):
    source, target = tmp_path / "a.npz", tmp_path / "b.ckpt"
    checkpoint.save(registry.build("REMSISD", members=1), source)
    for arguments, words in [
        ((source, tmp_path / "b.h5"), "ends in .npz (this project) or .ckpt"),
        ((tmp_path / "no.npz", tmp_path / "c.npz"), "no.npz: checkpoint not found"),
        ((tmp_path / "no.ckpt", tmp_path / "c.npz"), "no.ckpt: checkpoint not found"),
        ((source, source), "a.npz is there already: pass --overwrite"),
    ]:
        assert command("convert", *arguments) == 2
        assert words in capsys.readouterr().err
    assert command("convert", source, target) == 0
    assert command("convert", source, target) == 2
    before = Path(f"{target}.index").read_bytes()

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tf_checkpoint.os, "fsync", fail)
    assert command("convert", source, target, "--overwrite") == 2
    assert command("convert", source, tmp_path / "c.ckpt") == 2
    monkeypatch.undo()
    assert Path(f"{target}.index").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [
        "a.npz", "b.ckpt.data-00000-of-00001", "b.ckpt.index",
    ]  # fmt: skip
    assert not list(tmp_path.glob(".*"))


def test_inspect(small, tmp_path, capsys):
    path = write_original(tmp_path / "REM_SISD.ckpt", ensemble(REM_SISD, [0, 1]))
    assert command("inspect", path) == 0
    text = capsys.readouterr().out
    shapes = released.published_shapes("REMSISD", "normal")
    numbers = sum(int(np.prod(s)) for n, s in shapes.items() if "moving_" not in n)
    for words in ("TensorFlow", "REMSISD", "2 complete (0, 1), published: 5", f"{numbers:,} trainable"):
        assert words in text
    assert "fc_mha" not in text
    own = registry.build("N23SIMD", members=1, mode="retrained")
    checkpoint.save(own, tmp_path / "a.npz", simulated=True)
    assert command("inspect", tmp_path / "a.npz", "--verbose") == 0
    text = capsys.readouterr().out
    for words in ("N23SIMD", "retrained", "SIMULATED", "sleep_emb_input/conv1d_layer/kernel  9 x 3 x 4"):
        assert words in text
    convert.convert(tmp_path / "a.npz", tmp_path / "a.ckpt")
    assert command("inspect", tmp_path / "a.ckpt") == 0
    assert "written by this project" in (text := capsys.readouterr().out) and "SIMULATED" in text
    checkpoint.write_arrays(tmp_path / "member_0.npz", {"history": [{}, {}], "notes": {}}, {})
    assert command("inspect", tmp_path / "member_0.npz") == 0
    assert "training state of one member, 2 epochs done" in capsys.readouterr().out


def test_inspect_says_what_an_unknown_checkpoint_resembles(small, tmp_path, capsys):
    names = dict(list(member(REM_SIMD).items())[:-3])
    path = write_original(tmp_path / "mine.ckpt", {0: names})
    assert command("inspect", path) == 0
    text = capsys.readouterr().out
    assert "not recognised" in text and "most resembles REMSIMD" in text and "434 of 437" in text
    assert text.index("like REMSIMD") < text.index("like SIStaging")


def test_the_command_runs_from_anywhere(run_script, tmp_path):
    done = run_script("model/checkpoint.py", "inspect", "no.npz", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == "error: no.npz: checkpoint not found\n"


def test_help_imports_nothing_heavy(run_script, tmp_path):
    done = run_script("model/checkpoint.py", "--help", cwd=tmp_path, env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert done.returncode == 0 and "convert" in done.stdout
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert not imported & {"tensorflow", "keras"} and "pydantic" in imported


# Published sizes


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=pytest.mark.slow) for row in (STAGING, REM_SISD, RETRAINED)], ids=repr
)
def test_a_whole_ensemble_of_published_size(row, tmp_path):
    members = ensemble(row)
    path = write_original(tmp_path / row.files[0], members)
    network = checkpoint.restore(path, row.network, row.mode)
    assert len(network.individual_models) == MEMBERS.get(row.network, 5)
    assert_holds(network, members.values())
