"""Settings: what is merged in which order, and what is refused with which words."""

import logging
import math
import time
from argparse import Namespace
from fnmatch import fnmatch
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field

from sleep_interpreter.model.checkpoints import released
from sleep_interpreter.train.settings import experiment
from sleep_interpreter.train.settings.experiment import Experiment
from sleep_interpreter.utils.core import config, yaml_reader
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import PROJECT
from sleep_interpreter.utils.DotDict import DotDict


def arguments(**given):
    """What the command line of a script gives."""
    return Namespace(**{"config": None, "overrides": [], "quick": False, "mode": None} | given)


class Inner(config.Settings):
    epochs: int = Field(10, gt=0)
    rate: float = 0.5


BILLION = "a: &a [1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{n}: &{n} [*{m}, *{m}, *{m}, *{m}, *{m}, *{m}, *{m}, *{m}]\n" for m, n in zip("abcdefg", "bcdefgh", strict=True)
)
"""Eight lines whose anchors stand for 17 million values."""


class Outer(config.Settings):
    name: str = "x"
    train: Inner = Inner()


@pytest.fixture
def files(tmp_path):
    (tmp_path / "_base.yaml").write_text("train: {epochs: 1, rate: 0.1}\n")
    (tmp_path / "run.yaml").write_text(
        "extends: _base\ntrain: {epochs: 2}\nmodes: {slow: {train: {epochs: 3}}}\nquick: {train: {epochs: 4}}\n"
    )
    return tmp_path / "run.yaml"


def test_order_of_merging(files):
    assert config.load(Outer, files).train == Inner(epochs=2, rate=0.1)
    assert config.load(Outer, files, mode="slow").train.epochs == 3
    assert config.load(Outer, files, mode="slow", quick=True).train.epochs == 4
    assert config.load(Outer, files, quick=True, overrides=["train.epochs=5"]).train.epochs == 5
    assert config.load(Outer, files, overrides=["train.rate=1e-3"]).train.rate == 1e-3


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.epohs=3"], ["--set train.epohs=3", "unknown key 'train.epohs'", "'train.epochs'"]),
        (["trian.epochs=3"], ["unknown key 'trian'", "'train'"]),
        (["train.epochs=0"], ["train.epochs = 0", "greater than 0"]),
        (["train.epochs=many"], ["train.epochs", "'many'", "integer"]),
        (["train.epochs=2.5"], ["train.epochs", "2.5"]),
        (["train=3"], ["train", "3"]),
        (["train.epochs"], ["--set train.epochs", "key=value"]),
        (["name=[1"], ["--set name=[1", "YAML"]),
    ],
)
def test_refusals_name_key_value_and_remedy(files, overrides, words):
    with pytest.raises(UserError) as caught:
        config.load(Outer, files, overrides=overrides)
    for word in words:
        assert word in str(caught.value)


def test_a_bad_file_is_named(tmp_path):
    bad = tmp_path / "bad.yaml"
    for content, word in [("a: [1\n", "YAML"), ("- 1\n", "mapping"), ("train: {epohs: 1}\n", "did you mean")]:
        bad.write_text(content)
        with pytest.raises(UserError, match=r"bad\.yaml") as caught:
            config.load(Outer, bad)
        assert word in str(caught.value)
    with pytest.raises(UserError, match="not found"):
        config.load(Outer, tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="N23SIMD"):
        config.load(Outer, "absent")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("train:\n  epochs: 1\n  rate: 2\n  epochs: 3\n", ["line 4", "'epochs' stands twice", "line 2"]),
        ("name: a\n'name': b\n", ["line 2", "'name' stands twice"]),
        ("name: {a: 1, a: 2}\n", ["'a' stands twice"]),
        ("name: 2024-13-45\ntrain: {epochs: 2024-01-02}", ["train.epochs = '2024-01-02'"]),
        ("name: !!timestamp 2024-13-45\n", ["YAML"]),
        ("name: !!bool x\n", ["YAML"]),
        ("name: !!int ''\n", ["YAML"]),
        ("name: &a {b: *a}\n", ["contains itself"]),
        ("name: &a [*a]\n", ["contains itself"]),
        (BILLION, ["more than 100000 values"]),
        ("name: " + "[" * 60 + "]" * 60, ["nested deeper"]),
        ("name: " + "[" * 5000 + "]" * 5000, ["nested deeper"]),
        ("name: " + "{a: " * 5000 + "1" + "}" * 5000, ["nested deeper"]),
        ("modes: [1]\n", ["`modes` holds [1]", "mapping"]),
        ("modes: {slow: 3}\n", ["modes.slow", "mapping", "found 3"]),
        ("quick: 3\n", ["`quick` holds 3", "mapping"]),
        ("1: 2\n", ["unknown key '1'"]),
        ("on: 2\n", ["unknown key 'on'"]),
        ("null: 2\n", ["unknown key 'null'"]),
        ("train: {2.5: 1}\n", ["unknown key 'train.2.5'"]),
        ("? [a, b]\n: 1\n", ["line 1", "key must be text"]),
        ("? {a: 1}\n: 1\n", ["line 1", "key must be text"]),
        ("train: {epochs: 99999999999999999999}\n", ["whole number of this size"]),
        ("train:\n  epochs: " + "9" * 5000, ["YAML"]),
        ("train: {rate: .nan}\n", ["train.rate = nan", "finite"]),
        ("train: {rate: 1.0e+400}\n", ["train.rate = inf", "finite"]),
        ("extends: [a]\n", ["extends ['a']", "expected a name"]),
        ("extends: ../x\n", ["extends '../x'", "expected a name"]),
        ("extends: ''\n", ["expected a name"]),
        ("a: 1\n---\nb: 2\n", ["YAML"]),
        ("a: *b\n", ["YAML"]),
        ("a: \x00\n", ["YAML"]),
    ],
)  # fmt: skip
def test_odd_yaml_gets_one_sentence(content, words, tmp_path):
    odd = tmp_path / "odd.yaml"
    odd.write_text(content)
    with pytest.raises(UserError) as caught:
        config.load(Outer, odd, mode="slow" if "slow" in content else None)
    message = str(caught.value)
    assert "odd.yaml" in message and "\n" not in message and len(message) < 400, message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "value",
    ["010", "-007", "08", "0o10", "0b11", "0x1_F", "-0x1F", "1_000", "1_0.5", "2024_01", "1:30", "08:30",
     "12:30:00", "1:30.5", "190:20:30.15", ".5_0", "-.1_0e3"],
)  # fmt: skip
def test_numbers_that_readers_of_yaml_take_for_different_things_are_refused(value, tmp_path):
    """YAML 1.1 reads 010 as 8, 1:30 as 90 and 2024_01 as 202401, YAML 1.2 as 10 and text."""
    assert_refused = pytest.raises(UserError, match="is not the same to all readers of YAML")
    (tmp_path / "odd.yaml").write_text(f"train:\n  epochs: 3\nname: {value}\n")
    with assert_refused as caught:
        config.load(Outer, tmp_path / "odd.yaml")
    assert str(caught.value).endswith(
        f"odd.yaml, line 3: not readable as YAML: {value} is not the same to all readers of YAML (octal, "
        f'base 60, text ...); write a plain decimal number, or "{value}" if text is meant'
    )
    (tmp_path / "odd.yaml").write_text(f'name: "{value}"\n{value}: 1\n')
    assert config.read_yaml(tmp_path / "odd.yaml") == {"name": value, value: 1}
    for tag in ("", "!!int ", "!!float ", "!!null "):  # a tag does not make it any clearer
        with pytest.raises(UserError, match=f"--set train.epochs={tag}{value}: .*{value} is not the same"):
            config.parse_override(f"train.epochs={tag}{value}")
    assert config.parse_override(f"name=!!str {value}") == ("name", value)


@pytest.mark.parametrize(
    "text",
    ["!!bool yes", "!!bool 1", "!!null 3", "!!int 3.0", "!!float x", "!!timestamp 2024-01-02", "!!binary aGk=", "!x 3"],
)
def test_a_tag_that_says_something_else_is_refused(text):
    with pytest.raises(UserError, match=rf"--set a={text}: .* is not what its tag '.*' says; leave the tag out"):
        config.parse_override(f"a={text}")


@pytest.mark.parametrize(
    ("text", "value"), [("!!int 3", 3), ('!!int "3"', 3), ("!!float 3", 3.0), ("!!bool true", True), ("!!null ~", None)]
)
def test_a_tag_that_fits_is_taken(text, value):
    found = config.parse_override(f"a={text}")[1]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("text", ["<<", "[<<]", "{b: <<}", "!!merge <<"])
def test_a_lone_merge_sign_gets_a_plain_sentence(text):
    with pytest.raises(UserError, match='<< stands before a colon and merges a mapping; write "<<" if text is meant'):
        config.parse_override(f"a={text}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, word) for word in ("yes", "No", "on", "OFF", "y", "2024-01-02", "12:75", "0o8", "=")),
        *((word, None) for word in ("~", "null", "NULL", "")),
        ("True", True), ("false", False), ("0x1F", 31), ("+12", 12), ("0", 0), ("1e5", 1e5), ("1E-3", 1e-3),
        (".5", 0.5), ("5.", 5.0), ("01.5", 1.5), (".inf", math.inf), ("-.inf", -math.inf),
    ],
)  # fmt: skip
def test_what_a_value_without_quotes_is(text, value):
    found = config.parse_override(f"a={text}")[1]
    assert found == value and type(found) is type(value)


class Numbers(config.Settings):
    count: int = 1
    rate: float | None = None
    share: float | Literal["auto"] = "auto"
    pair: tuple[int, float] = (1, 2.0)
    named: dict[str, int] | None = None
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()
    either: bool | int = 1
    any: dict[str, Any] | None = None


@pytest.mark.parametrize("word", ["true", "false"])
@pytest.mark.parametrize(
    ("override", "key", "kind"),
    [
        ("count={}", "count", "integer"), ("rate={}", "rate", "number"), ("share={}", "share", "number"),
        ("pair=[1, {}]", "pair.1", "number"), ("named={{a: {}}}", "named.a", "integer"),
        ("inner.rate={}", "inner.rate", "number"),
        ("several=[{{epochs: 2}}, {{rate: {}}}]", "several.1.rate", "number"),
    ],
)  # fmt: skip
def test_true_and_false_are_no_numbers(override, key, kind, word, tmp_path):
    text = override.format(word)
    (tmp_path / "a.yaml").write_text("")
    with pytest.raises(UserError) as refused:
        config.load(Numbers, tmp_path / "a.yaml", overrides=[text])
    assert str(refused.value) == f"--set {text}: {key} = {word.title()}: input should be a valid {kind}"
    tree = config.parse_override(text)
    for part in reversed(tree[0].split(".")):
        tree = (None, {part: tree[1]})
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(tree[1]))
    with pytest.raises(UserError, match=rf"a\.yaml: {key} = {word.title()}: input should be a valid {kind}"):
        config.load(Numbers, tmp_path / "a.yaml")


def test_true_stays_true_where_a_setting_may_be_that(tmp_path):
    (tmp_path / "a.yaml").write_text("either: true\nany: {a: true, b: [false]}\n")
    found = config.load(Numbers, tmp_path / "a.yaml")
    assert found.either is True and found.any == {"a": True, "b": [False]}


class Section(config.Settings):
    seed: int = 0
    rate: float = 1.0


class Sections(config.Settings):
    train: Inner = Inner()
    evaluate: Section = Section()
    pet: Section = Section()


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("evaluate.epochs", "'train.epochs'"),  # not evaluate.seed
        ("train.seed", "'evaluate.seed' or 'pet.seed'"),
        ("epochs", "'train.epochs'"),
        ("evaluate.sed", "'evaluate.seed'"),
        ("trian", "'train'"),
    ],
)
def test_a_key_of_another_section_is_the_hint_before_a_like_one(key, hint, tmp_path):
    (tmp_path / "a.yaml").write_text("")
    with pytest.raises(UserError) as refused:
        config.load(Sections, tmp_path / "a.yaml", overrides=[f"{key}=1"])
    assert str(refused.value).endswith(f"unknown key {key!r}; did you mean {hint}?")


class Switches(config.Settings):
    on: bool = True
    when: Literal["on", "off"] = "on"
    count: int = 1
    text: str = ""


def test_yes_and_off_are_what_the_setting_is(tmp_path):
    (tmp_path / "a.yaml").write_text("on: off\nwhen: off\ncount: 1e3\n")
    assert config.load(Switches, tmp_path / "a.yaml") == Switches(on=False, when="off", count=1000)
    with pytest.raises(UserError, match="count = 'yes': input should be a valid integer"):
        config.load(Switches, tmp_path / "a.yaml", overrides=["count=yes"])
    with pytest.raises(UserError, match=r"text = 100000\.0: .*; put it in quotes if it is text"):
        config.load(Switches, tmp_path / "a.yaml", overrides=["text=1e5"])


@pytest.mark.parametrize("text", ["010", "1e5", "0o10", "08:30", "on", "1_000", "2024-01-02", "null", "=", "<<"])
def test_text_that_looks_like_something_else_is_saved_as_text(text, tmp_path):
    config.save(Switches(text=text), tmp_path / "saved.yaml")
    assert config.load(Switches, tmp_path / "saved.yaml").text == text


def test_no_text_is_refused(tmp_path):
    (tmp_path / "odd.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(UserError, match=r"odd\.yaml: not readable as YAML: no UTF-8"):
        config.load(Outer, tmp_path / "odd.yaml")


def test_anchors_and_dates_that_make_sense_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text("name: 2024-01-02\nx: &x {epochs: 3, rate: 1.0}\ntrain: {<<: *x, rate: 2.0}\n")
    tree = config.read_yaml(tmp_path / "a.yaml")
    assert tree["train"] == {"epochs": 3, "rate": 2.0} and tree["name"] == "2024-01-02"


@pytest.mark.parametrize(
    ("merges", "value"),
    [
        ("[*a, *b]", {"x": 1, "y": 2, "z": 2}), ("[*b, *a]", {"x": 2, "y": 2, "z": 2}), ("[*c, *b]", {"x": 3, "y": 2,
        "z": 2}), ("[*a, {y: 9}, *b]", {"x": 1, "y": 9, "z": 2}), ("*c", {"x": 3}), ("[]", {}), ("[*e, *b]", {"x": 2,
        "y": 2, "z": 2}),
    ],
)  # fmt: skip
def test_of_merged_mappings_the_first_that_has_a_key_counts(merges, value):
    text = f"a: &a {{x: 1}}\nb: &b {{x: 2, y: 2, z: 2}}\nc: &c {{<<: *a, x: 3}}\ne: &e {{}}\nd: {{<<: {merges}}}"
    assert yaml_reader.parse(text, "here")["d"] == value
    assert yaml_reader.parse(f"{text[:-1]}, y: 0}}", "here")["d"] == {**value, "y": 0}


def merge_bomb(width, depth, keys):
    """Return a few lines that merge a mapping `width ** depth` times."""
    lines = ["k0: &k0 {" + ", ".join(f"x{i}: 1" for i in range(keys)) + "}"]
    for i in range(1, depth + 1):
        lines.append(f"k{i}: &k{i} {{<<: [{', '.join([f'*k{i - 1}'] * width)}]}}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (merge_bomb(10, 9, 10), None),
        (merge_bomb(2, 60, 1), None),
        (merge_bomb(1000, 3, 200), "line 2: .*<< merges more than 100000 values"),
        (merge_bomb(20_000, 1, 50), "line 2: .*<< merges more"),
        ("a: &a {<<: *a, x: 1}", None),
        ("a: &a {x: {<<: [*a, *a]}}", "contains itself"),
        ("a: {<<: [1]}", "<< takes a mapping, or a list of mappings"),
        ("a: {<<: x}", "<< takes a mapping, or a list of mappings"),
    ],
    ids=range(8),
)  # fmt: skip
def test_merges_have_an_end(text, said):
    began = time.monotonic()
    if said is None:
        yaml_reader.parse(text, "here")
    else:
        with pytest.raises(UserError, match=said):
            yaml_reader.parse(text, "here")
    assert time.monotonic() - began < 5


def test_own_settings_extend_the_projects(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: N23SIMD\ntrain: {epochs: 3}\n")
    settings = config.load(Experiment, tmp_path / "mine.yaml")
    assert settings.train.epochs == 3 and settings.network == "N23SIMD"


def test_quick_needs_a_quick_section(tmp_path):
    """Without one `--quick` would silently start the full-size training."""
    for content in ("train: {epochs: 2}\n", "quick:\n", "quick: {}\n"):
        (tmp_path / "run.yaml").write_text(content)
        assert config.load(Outer, tmp_path / "run.yaml")
        with pytest.raises(UserError, match=r"--quick: neither .*run\.yaml .*`quick` section"):
            config.load(Outer, tmp_path / "run.yaml", quick=True)


def test_a_setting_given_twice_is_logged(files, caplog):
    settings = config.load(Outer, files, overrides=["train.epochs=5", "name=y", "train.epochs=6"])
    assert settings.train.epochs == 6
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "train.epochs=5 is replaced by --set train.epochs=6" in record.getMessage()
    caplog.clear()
    experiment.read("N23SIMD", arguments(overrides=["train.epochs=5", "train.epochs=6"]))
    assert len(caplog.records) == 1  # a script's settings are read once


class Cat(config.Settings):
    kind: Literal["cat"] = "cat"
    whiskers: int = 3


class Dog(config.Settings):
    kind: Literal["dog"] = "dog"
    barks: bool = True


class Owner(config.Settings):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    pets: tuple[Inner, ...] = ()
    rate: float | Literal["auto"] = "auto"
    pair: tuple[int, int] = (1, 2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pet={kind: cat, whisker: 3}"], "unknown key 'pet.whisker'; did you mean 'pet.whiskers'?"),
        (["pet={kind: dog, whiskers: 3}"], "unknown key 'pet.whiskers'; did you mean 'pet.barks'?"),
        (["pet={kind: dog, barks: 3}"], "pet.barks = 3: "),
        (["pet={kind: cow}"], "'cow'"),
        (["pet={kind: cat}", "pets=[{epochs: 1}, {epochs: 0}]"], "pets.1.epochs = 0: "),
        (["pet={kind: cat}", "rate=x"], ": rate = 'x': "),
        (["pet={kind: cat}", "pair=[1]"], "'pair.1' is missing"),
        (["pet=3"], "pet = 3"),
    ],
)
def test_keys_are_named_as_they_are_typed(overrides, message, tmp_path):
    (tmp_path / "owner.yaml").write_text("")
    with pytest.raises(UserError) as caught:
        config.load(Owner, tmp_path / "owner.yaml", overrides=overrides)
    assert message in str(caught.value) and ".cat" not in str(caught.value) and "float" not in str(caught.value)


def test_model_settings_are_named_without_their_class():
    with pytest.raises(UserError) as caught:
        config.load(Experiment, "N23SIMD", overrides=["model.chanels=3"])
    assert str(caught.value) == ("--set model.chanels=3: unknown key 'model.chanels'; did you mean 'model.channels'?")


def test_circular_and_missing_extends(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b\n")
    (tmp_path / "b.yaml").write_text("extends: a\n")
    with pytest.raises(UserError, match="circle"):
        config.load(Outer, tmp_path / "a.yaml")
    (tmp_path / "c.yaml").write_text("extends: zzz\n")
    with pytest.raises(UserError, match="'zzz'"):
        config.load(Outer, tmp_path / "c.yaml")


def test_yaml_cannot_run_code(tmp_path):
    evil = tmp_path / "evil.yaml"
    evil.write_text(f"name: !!python/object/apply:os.system ['touch {tmp_path}/ran']\n")
    with pytest.raises(UserError):
        config.load(Outer, evil)
    assert not (tmp_path / "ran").exists()


def test_saved_settings_read_back(tmp_path):
    settings = config.load(Experiment, "N23SIMD", mode="retrained", overrides=["train.epochs=7"])
    config.save(settings, tmp_path / "settings.yaml")
    assert config.load(Experiment, tmp_path / "settings.yaml") == settings


def test_every_params_file_loads():
    for path in config.PARAMS.glob("[!_]*.yaml"):
        if "network" in yaml.safe_load(path.read_text()):
            assert config.load(Experiment, path).network == path.stem
            assert config.load(Experiment, path, quick=True).members < 5


@pytest.mark.parametrize(("name", "network"), [("N23_finetune", "N23SIMD"), ("REM_finetune", "REMSIMD")])
def test_fine_tuning(name, network):
    """Published: Adam at 2e-5, batches of 64, 200 epochs; the stems' convolutions do not train."""
    settings = experiment.read(name, arguments(), network=network)
    assert settings.network == network
    fine = settings.finetune
    assert (fine.learning_rate, fine.batch_size, fine.epochs) == (2e-5, 64, 200)
    shapes = released.published_shapes(network, "normal")
    frozen = {n for n in shapes if any(fnmatch(n.rpartition("/")[0], pattern) for pattern in fine.freeze)}
    trained = [s for n, s in shapes.items() if n not in frozen and "moving_" not in n]
    assert len(frozen) == 2 * {"N23SIMD": 18, "REMSIMD": 6}[network]
    assert sum(map(math.prod, trained)) == {"N23SIMD": 19_494_032, "REMSIMD": 22_645_904}[network]
    quick = experiment.read(name, arguments(quick=True), network=network)
    assert quick.finetune.epochs < 10 and quick.members == 2
    if network == "N23SIMD":
        retrained = experiment.read(name, arguments(mode="retrained"), network=network)
        assert retrained.model.stem.dilations == (1, 2)
    with pytest.raises(UserError, match=f"describes network {network}, this script is for {name}"):
        experiment.read(name, arguments())
    assert config.load(Experiment, network).finetune is None


def test_switches_for_comparisons():
    """One `--set` each turns off the contrastive terms or all that is awake."""
    assert config.load(Experiment, "N23SIMD").model.contrastive
    assert not config.load(Experiment, "N23SIMD", overrides=["model.contrastive=false"]).model.contrastive
    alone = config.load(Experiment, "N23SIMD", overrides=["model.awake=false"]).model
    assert alone.class_weights == config.load(Experiment, "N23SISD").model.class_weights
    train = config.load(Experiment, "REMSIMD").train
    assert (train.optimizer, train.validation_subjects, train.keep_epochs) == ("adamw", 0, 0)
    assert train.shuffle_labels is False
    for override in ("optimizer=sgd", "validation_subjects=-1", "keep_epochs=1.5", "shuffle_labels=3"):
        with pytest.raises(UserError, match=rf"train\.{override.split('=')[0]} = "):
            config.load(Experiment, "REMSIMD", overrides=[f"train.{override}"])


def test_another_network_gets_one_sentence():
    for given in ({"overrides": ["network=Foo"]}, {"overrides": ["network=[1]"]}):
        with pytest.raises(UserError) as caught:
            experiment.read("N23SIMD", arguments(**given))
        assert str(caught.value).startswith(f"--set {given['overrides'][0]}: describes network ")
        assert str(caught.value).endswith(", this script is for N23SIMD")
    with pytest.raises(UserError, match=r"SIStaging\.yaml: describes network SIStaging, this script is for N23"):
        experiment.read("N23SIMD", arguments(config="SIStaging", quick=True))


def test_the_same_data_folder_is_no_other_setting(tmp_path, monkeypatch):
    """--data naming the settings' own folder, absolutely, relatively or through a link, changes nothing."""
    inside = config.PARAMS.parent / "data" / "simulated" / "test"
    plain = experiment.read("N23SIMD", arguments(quick=True))
    config.save(plain, tmp_path / "settings.yaml")
    monkeypatch.chdir(config.PARAMS)
    (tmp_path / "link").symlink_to(config.PARAMS.parent)
    for given in (inside, "../data/simulated/test", tmp_path / "link" / "data" / "simulated" / "test"):
        settings = experiment.read("N23SIMD", arguments(quick=True, data=given))
        assert settings.data.root == "data/simulated/test"
        assert PROJECT / settings.data.root == inside
        assert experiment.differences(tmp_path / "settings.yaml", settings) == {}
    older = yaml.safe_load((tmp_path / "settings.yaml").read_text())
    older["data"]["root"] = str(inside)  # as earlier versions saved it
    del older["train"]["keep_epochs"]
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(older))
    assert experiment.differences(tmp_path / "settings.yaml", settings) == {}
    other = experiment.read("N23SIMD", arguments(quick=True, data=tmp_path, overrides=["train.epochs=7"]))
    assert experiment.differences(tmp_path / "settings.yaml", other) == {
        "data.root": ("data/simulated/test", str(tmp_path)),
        "train.epochs": (2, 7),
    }


def test_published_values():
    settings = config.load(Experiment, "N23SIMD")
    assert (settings.members, settings.train.epochs, settings.train.batch_size) == (5, 100, 256)
    assert settings.train.seed == 1642
    assert settings.model.stem.dilations == (1, 2, 4, 1, 2, 4)
    assert config.load(Experiment, "N23SIMD", mode="retrained").model.stem.dilations == (1, 2)


def test_lasso_parameters_are_a_view_on_the_yaml():
    from sleep_interpreter.params.lasso_glm_params import lasso_glm_params

    stored = yaml.safe_load((config.PARAMS / "lasso_glm.yaml").read_text())
    assert lasso_glm_params.to_dict() == stored
    assert lasso_glm_params.penalty.l1 == 0.005


def test_dotdict():
    view = DotDict({"a": {"b": [{"c": 1}]}, "d": 2})
    assert view.a.b[0].c == 1 and view["d"] == view.d == 2
    view.a.e = 3
    assert view["a"]["e"] == 3
    del view.d
    assert "d" not in view
    with pytest.raises(AttributeError, match="did you mean 'a'"):
        view.A  # noqa: B018
    assert DotDict({"items": 1})["items"] == 1
