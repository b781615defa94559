"""Settings: what is merged in which order, and what is refused with which words."""

import pytest
import yaml
from pydantic import Field

from utils import config
from utils.DotDict import DotDict
from utils.errors import UserError
from utils.experiment import Experiment


class Inner(config.Settings):
    epochs: int = Field(10, gt=0)
    rate: float = 0.5


class Outer(config.Settings):
    name: str = "x"
    train: Inner = Inner()


@pytest.fixture
def files(tmp_path):
    (tmp_path / "_base.yaml").write_text("train: {epochs: 1, rate: 0.1}\n")
    (tmp_path / "run.yaml").write_text(
        "extends: _base\ntrain: {epochs: 2}\n"
        "modes: {slow: {train: {epochs: 3}}}\nquick: {train: {epochs: 4}}\n"
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
            for quick in (False, True):
                assert config.load(Experiment, path, quick=quick).network == path.stem


def test_published_values():
    settings = config.load(Experiment, "N23SIMD")
    assert (settings.members, settings.train.epochs, settings.train.batch_size) == (5, 100, 256)
    assert settings.train.seed == 1642
    assert settings.model.stem.dilations == (1, 2, 4, 1, 2, 4)
    assert config.load(Experiment, "N23SIMD", mode="retrained").model.stem.dilations == (1, 2)


def test_lasso_parameters_are_a_view_on_the_yaml():
    from params.lasso_glm_params import lasso_glm_params

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
