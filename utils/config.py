"""Settings from YAML: `extends`, typed values, refusals that name the key.

A settings class derives from `Settings` (a frozen pydantic model). `load` merges, in this order:
the file that `extends` names, the file itself, its `modes: {MODE: ...}` section, its `quick: ...`
section under `--quick`, and every `--set a.b=c`.
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from utils.errors import UserError, nearest
from utils.paths import PARAMS, shown, writing


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
        Missing file, unknown key (with the nearest known one), wrong type or value out of range.
    """
    path = find(source)
    tree, origin = resolve(path, overrides=overrides, quick=quick, mode=mode)
    return validate(schema, tree, shown(path), origin)


def resolve(path, *, overrides=(), quick=False, mode=None):
    """Merge a settings file as `load` does, without checking values.

    Returns
    -------
    tree : dict
    origin : dict
        Where each dotted key came from, for error messages.
    """
    tree, origin = _read_chain(Path(path), ())
    modes = tree.pop("modes", None) or {}
    quick_tree = tree.pop("quick", None) or {}
    if mode not in (None, "normal"):
        if mode not in modes:
            known = ", ".join(["normal", *modes])
            raise UserError(f"{shown(path)}: no mode {mode!r}; there are {known}")
        merge(tree, modes[mode], origin, f"{shown(path)}, modes.{mode}")
    if quick:
        merge(tree, quick_tree, origin, f"{shown(path)}, quick")
    for text in overrides:
        key, value = parse_override(text)
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        merge(tree, nested, origin, f"--set {text}")
    return tree, origin


def validate(schema, tree, where, origin=None, prefix=None):
    """Check a plain mapping against `schema`; every problem is one sentence of a `UserError`.

    `prefix` is put before the keys that messages name: the section that `tree` stands in.
    """
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        problems = [_sentence(schema, e, where, origin or {}, prefix) for e in error.errors()]
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
    if not sign or not key.strip():
        raise UserError(f"--set {text}: expected key=value, for example --set train.epochs=10")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"--set {text}: {value!r} is not a YAML value") from None


def save(settings, path):
    """Write resolved settings as YAML that `load` reads back."""
    with writing(path) as temporary:
        temporary.write_text(
            yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
            encoding="utf-8",
        )


def read_yaml(path):
    """Read a YAML mapping (`safe_load`), or raise a `UserError` that names the file and the line."""
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: file not found") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{shown(path)}: not readable as YAML: {reason}") from None
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
        parent_path = path.with_name(f"{parent}.yaml")
        if not parent_path.is_file():
            raise UserError(f"{shown(path)}: extends {parent!r}, but there is no {shown(parent_path)}")
        tree, origin = _read_chain(parent_path, (*seen, path.resolve()))
    merge(tree, own, origin, shown(path))
    return tree, origin


def merge(tree, other, origin, where, prefix=""):
    """Merge the nested mapping `other` into `tree` in place, noting in `origin` where each key came from."""
    if not isinstance(other, dict):
        raise UserError(f"{where}: expected a mapping of settings, found {other!r}")
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


def _sentence(schema, error, where, origin, prefix):
    loc = [str(p) for p in error["loc"]]
    parts = [prefix, *loc] if prefix else loc
    dotted = ".".join(parts)
    place = next((origin[d] for n in range(len(parts), 0, -1) if (d := ".".join(parts[:n])) in origin), where)
    if error["type"] == "extra_forbidden":
        known = _known_keys(schema, f"{prefix}." if prefix else "")
        close = nearest(dotted, known, 1) or [k for k in known if k.split(".")[-1] == parts[-1]][:1]
        siblings = [k for k in known if k.split(".")[:-1] == parts[:-1]]
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(siblings)}"
        return f"{place}: unknown key {dotted!r}; {hint}"
    if error["type"] == "missing":
        return f"{where}: {dotted!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    found = "" if isinstance(error["input"], dict) else f" = {error['input']!r}"
    return f"{place}: {dotted or 'settings'}{found}: {message[0].lower() + message[1:]}"


def _known_keys(schema, prefix=""):
    keys = []
    for name, field in schema.model_fields.items():
        keys.append(prefix + name)
        for kind in [field.annotation, *getattr(field.annotation, "__args__", ())]:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys += _known_keys(kind, f"{prefix}{name}.")
    return keys
