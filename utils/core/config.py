"""Settings from YAML: `extends`, typed values, refusals that name the key.

A settings class derives from `Settings` (a frozen pydantic model). `load` merges, in this order:
the file that `extends` names, the file itself, its `modes: {MODE: ...}` section, its `quick: ...`
section under `--quick`, and every `--set a.b=c`.
"""

import logging
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from sleep_interpreter.utils.core import yaml_reader
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.paths import PARAMS, shown, writing

log = logging.getLogger(__name__)


class Settings(BaseModel):
    """Base of every settings class: unknown keys are refused, values are checked and never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )


def load(schema, source, *, overrides=(), quick=False, mode=None):
    """Read settings.

    Parameters
    ----------
    schema : type
        A subclass of `Settings`.
    source : str | Path
        A name in params/ ("N23SIMD") or the path of a YAML file.
    overrides : iterable of str
        "a.b=c" strings as given to `--set`; c is read as YAML.
    quick : bool
        Merge the file's `quick` section: small and fast, for trying things out.
    mode : str | None
        Merge this entry of the file's `modes` section.

    Returns
    -------
    settings : instance of `schema`

    Raises
    ------
    UserError
        Missing file, unknown key (with the nearest known one), wrong type or value out of range; `quick`
        where there is no `quick` section (what would start then is the full-size run).
    """
    path = find(source)
    tree, origin, has_quick = _merged(path, overrides, quick, mode)
    settings = validate(schema, tree, shown(path), origin)
    if quick and not has_quick:
        raise UserError(
            f"--quick: neither {shown(path)} nor a file that it extends has a `quick` section; add one that "
            "says what is small, or leave out --quick"
        )
    return settings


def resolve(path, *, overrides=(), quick=False, mode=None):
    """Merge a settings file as `load` does, without checking values.

    Returns
    -------
    tree : dict
    origin : dict
        Where each dotted key came from, for error messages.
    """
    return _merged(Path(path), overrides, quick, mode)[:2]


def _merged(path, overrides, quick, mode):
    """Return tree and origin, and whether the files have a `quick` section at all."""
    tree, origin = _read_chain(path, ())
    modes, small = (_section(tree, origin, path, key) for key in ("modes", "quick"))
    if mode not in (None, "normal"):
        if not isinstance(mode, str) or mode not in modes:
            known = ", ".join(["normal", *modes])
            raise UserError(f"{shown(path)}: no mode {mode!r}; there are {known}")
        merge(tree, modes[mode], origin, f"{shown(path)}, modes.{mode}")
    if quick:
        merge(tree, small, origin, f"{shown(path)}, quick")
    given = {}
    for text in overrides:
        key, value = parse_override(text)
        if key in given:
            log.warning(
                "--set %s is given more than once: --set %s is replaced by --set %s", key, given[key], text
            )
        given[key] = text
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        merge(tree, nested, origin, f"--set {text}")
    return tree, origin, bool(small)


def _section(tree, origin, path, key):
    section = tree.pop(key, None)
    if section is None:
        return {}
    if not isinstance(section, dict):
        where = origin.get(key, shown(path))
        raise UserError(f"{where}: `{key}` holds {_short(section)}, expected a mapping of settings")
    return section


def validate(schema, tree, where, origin=None, prefix=None):
    """Check a plain mapping against `schema`; every problem is one sentence of a `UserError`.

    `prefix` is put before the keys that messages name: the section that `tree` stands in.
    """
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        problems = [_sentence(schema, e, tree, where, origin or {}, prefix) for e in error.errors()]
        more = f"; and {len(problems) - 3} more problems" if len(problems) > 3 else ""
        raise UserError("; ".join(problems[:3]) + more) from None


def find(source):
    """Return the path of a settings file given by name or path, or raise a `UserError`."""
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"{path}: settings file not found")
        return path
    named = PARAMS / f"{source}.yaml"
    if not named.is_file():
        known = sorted(p.stem for p in PARAMS.glob("[!_]*.yaml"))
        raise UserError(f"no settings {str(source)!r} in {shown(PARAMS)}; there are {', '.join(known)}")
    return named


def parse_override(text):
    """Split "a.b=c" into its key and its value, read as YAML."""
    key, sign, value = text.partition("=")
    key = key.strip()
    if not sign or not all(key.split(".")):
        raise UserError(f"--set {text}: expected key=value, for example --set train.epochs=10")
    return key, yaml_reader.parse(value, f"--set {key}={_short(value, str)}")


def save(settings, path):
    """Write resolved settings as YAML that `load` reads back."""
    with writing(path) as temporary:
        temporary.write_text(
            yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
            encoding="utf-8",
        )


def read_yaml(path):
    """Read a YAML mapping, or raise a `UserError` that names the file and the line.

    Keys are always text, as they are typed; see `utils.core.yaml_reader.parse` for what is refused.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: file not found") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{shown(path)}: not readable as YAML: no UTF-8 text ({error.reason})") from None
    tree = yaml_reader.parse(text, shown(path))
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"{shown(path)}: expected a mapping of settings, found {type(tree).__name__}")
    return tree


def _read_chain(path, seen):
    if path.resolve() in seen:
        raise UserError(f"{shown(path)}: `extends` goes round in a circle")
    own = read_yaml(path)
    parent = own.pop("extends", None)
    tree, origin = {}, {}
    if parent is not None:
        if not isinstance(parent, str) or not parent or Path(parent).name != parent:
            raise UserError(f"{shown(path)}: extends {_short(parent)}, expected a name such as N23SIMD")
        places = [folder / f"{parent}.yaml" for folder in dict.fromkeys([path.parent, PARAMS])]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            listed = " or ".join(map(shown, places))
            raise UserError(f"{shown(path)}: extends {parent!r}, but there is no {listed}")
        tree, origin = _read_chain(found, (*seen, path.resolve()))
    merge(tree, own, origin, shown(path))
    return tree, origin


def merge(tree, other, origin, where, prefix=""):
    """Merge the nested mapping `other` into `tree` in place, noting in `origin` where each key came from."""
    if not isinstance(other, dict):
        raise UserError(f"{where}: expected a mapping of settings, found {_short(other)}")
    for key, value in other.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            merge(tree[key], value, origin, where, f"{dotted}.")
        elif isinstance(value, dict):
            tree[key] = {}
            merge(tree[key], value, origin, where, f"{dotted}.")
        else:
            tree[key] = value
        origin[dotted] = where


def flat(tree, prefix=""):
    """Return a nested mapping as {"a.b": value}."""
    result = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result


_BOUNDS = ("greater_than_equal", "greater_than", "less_than_equal", "less_than")


def _sentence(schema, error, tree, where, origin, prefix):
    loc = _keys(error, tree)
    parts = [prefix, *loc] if prefix else loc
    dotted = ".".join(parts)
    place = next((origin[d] for n in range(len(parts), 0, -1) if (d := ".".join(parts[:n])) in origin), where)
    if error["type"] == "extra_forbidden":
        known = _known_keys(schema, tree, f"{prefix}." if prefix else "")
        close = nearest(dotted, known, 1) or [k for k in known if k.split(".")[-1] == parts[-1]][:1]
        siblings = [k for k in known if k.split(".")[:-1] == parts[:-1]]
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(siblings)}"
        return f"{place}: unknown key {dotted!r}; {hint}"
    if error["type"] == "missing":
        return f"{place}: {dotted!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("model_type", "model_attributes_type"):
        message = "expected a mapping of settings"
    found = "" if isinstance(error["input"], dict) else f" = {_short(error['input'])}"
    permitted = _permitted(schema, loc) if error["type"] in _BOUNDS else ""
    return f"{place}: {dotted or 'settings'}{found}: {message[0].lower() + message[1:]}{permitted}"


def _permitted(schema, loc):
    """Return " (permitted: at least 0 and at most 1)" where a field has bounds on both sides, else ""."""
    field = None
    for key in loc:
        if schema is None or key not in schema.model_fields:
            return ""
        field = schema.model_fields[key]
        kinds = [field.annotation, *get_args(field.annotation)]
        kinds = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        schema = kinds[0] if len(kinds) == 1 else None
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    bounds = [
        f"{word} {getattr(part, name):g}"
        for part in (field.metadata if field is not None else ())
        for name, word in words.items()
        if getattr(part, name, None) is not None
    ]
    return f" (permitted: {' and '.join(bounds)})" if len(bounds) == 2 else ""


def _keys(error, tree):
    """Return the path of an error as keys that the user typed.

    pydantic also puts in which of several classes it tried ("model.decoder.channels"); what does not lead
    further into the settings is such a tag.
    """
    keys, node = [], tree
    for place, part in enumerate(error["loc"]):
        places = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        if part in places:
            node = node[part]
        elif not (error["type"] == "missing" and place == len(error["loc"]) - 1):
            continue
        keys.append(str(part))
    return keys


def _known_keys(schema, tree, prefix=""):
    keys = []
    for name, field in schema.model_fields.items():
        keys.append(prefix + name)
        kinds = [field.annotation, *get_args(field.annotation)]
        kinds = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        below = tree.get(name) if isinstance(tree, dict) else None
        if isinstance(field.discriminator, str) and isinstance(below, dict):
            tag = below.get(field.discriminator)
            kinds = [k for k in kinds if tag in get_args(k.model_fields[field.discriminator].annotation)]
        for kind in kinds:
            keys += _known_keys(kind, below, f"{prefix}{name}.")
    return keys


def _short(value, form=repr):
    """Return a value as text that fits into a sentence."""
    text = form(value)
    return text if len(text) <= 100 else f"{text[:90]}... ({len(text)} characters)"
