"""Settings from YAML: `extends`, typed values, refusals that name the key.

A settings class derives from `Settings` (a frozen pydantic model). `load` merges, in this order: the file that
`extends` names, the file itself, its `modes: {MODE: ...}` section, its `quick: ...` section under `--quick`, and
every `--set a.b=c`.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, InitErrorDetails

from sleep_interpreter.utils.core import yaml_reader
from sleep_interpreter.utils.core.errors import UserError, nearest, warn_once
from sleep_interpreter.utils.core.paths import PARAMS, atomic_write, display_path, user_path

log = logging.getLogger(__name__)

Tree = dict[str, Any]
Origins = dict[str, str]
"""Where each dotted key came from, as messages say it: {"train.epochs": "--set train.epochs=3"}."""


class Settings(BaseModel):
    """Base of every settings class: unknown keys are refused, values are checked and never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )


def _named(text: str) -> str:
    if not text:
        raise ValueError("is empty; null means none")
    return str(user_path(text))


UserPath = Annotated[str, AfterValidator(_named)]
"""Type of a setting that names a file or folder; "~" is the user's home."""
S = TypeVar("S", bound=BaseModel)


def load(
    schema: type[S], source: str | Path, *, overrides: Iterable[str] = (), quick: bool = False, mode: str | None = None
) -> S:
    """Read settings of a class from `source`: a name in params/ ("N23SIMD") or the path of a YAML file.

    `overrides` are "a.b=c" strings as given to `--set`, c being read as YAML; `quick` merges the file's `quick`
    section, `mode` this entry of its `modes`. A `UserError` tells of a missing file, an unknown key (with the nearest
    known one), a wrong type or value out of range, and of `quick` where there is no `quick` section (what would start
    then is the full-size run).
    """
    path = find(source)
    tree, origins = resolve(path, overrides=overrides, quick=quick, mode=mode)
    return validate(schema, tree, display_path(path), origins)


def resolve(
    path: str | Path, *, overrides: Iterable[str] = (), quick: bool = False, mode: str | None = None,
    needs: str | None = None,
) -> tuple[Tree, Origins]:  # fmt: skip
    """Merge a settings file as `load` does, without checking values.

    A file without the key `needs` holds other settings: that is told, not that it has no `quick` section.
    """
    path = Path(path)
    tree, origins = _read_chain(path, ())
    sections = {key: tree.pop(key, None) or {} for key in ("modes", "quick")}
    for key, section in sections.items():
        if not isinstance(section, dict):
            where = origins.get(key, display_path(path))
            raise UserError(f"{where}: `{key}` holds {_short(section)}, expected a mapping of settings")
    if mode not in (None, "normal"):
        if not isinstance(mode, str) or mode not in sections["modes"]:
            known = ", ".join(["normal", *sections["modes"]])
            raise UserError(f"{path}: no mode {mode!r}; there are {known}")
        merge(tree, sections["modes"][mode], origins, f"{display_path(path)}, modes.{mode}")
    if needs is not None and needs not in tree:
        raise UserError(f"{display_path(path)}: {needs!r} is missing")
    if quick:
        if not sections["quick"]:
            raise UserError(
                f"--quick: neither {path} nor a file that it extends has a `quick` section; add one "
                "that says what is small, or leave out --quick"
            )
        merge(tree, sections["quick"], origins, f"{display_path(path)}, quick")
    given: dict[str, str] = {}
    for text in overrides:
        key, value = parse_override(text)
        if key in given:
            log.warning("--set %s is given more than once: --set %s is replaced by --set %s", key, given[key], text)
        given[key] = text
        for part in reversed(key.split(".")):
            value = {part: value}
        merge(tree, value, origins, f"--set {text}")
    return tree, origins


def _read_chain(path: Path, seen: tuple[Path, ...]) -> tuple[Tree, Origins]:
    """Return a file merged into what it extends."""
    if path.resolve() in seen:
        raise UserError(f"{path}: `extends` goes round in a circle")
    own = read_yaml(path)
    parent = own.pop("extends", None)
    tree: Tree = {}
    origins: Origins = {}
    if parent is not None:
        if not isinstance(parent, str) or not parent or Path(parent).name != parent:
            raise UserError(f"{path}: extends {_short(parent)}, expected a name such as N23SIMD")
        places = [folder / f"{parent}.yaml" for folder in dict.fromkeys([path.parent, PARAMS])]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            listed = " or ".join(map(display_path, places))
            raise UserError(f"{path}: extends {parent!r}, but there is no {listed}")
        tree, origins = _read_chain(found, (*seen, path.resolve()))
    merge(tree, own, origins, display_path(path))
    return tree, origins


def merge(tree: Tree, other: Any, origins: Origins, where: str, prefix: str = "") -> None:
    """Merge the nested mapping `other` into `tree` in place, noting in `origins` where each key came from."""
    if not isinstance(other, dict):
        raise UserError(f"{where}: expected a mapping of settings, found {_short(other)}")
    for key, value in other.items():
        origins[f"{prefix}{key}"] = where
        if isinstance(value, dict):
            if not isinstance(tree.get(key), dict):
                tree[key] = {}
            merge(tree[key], value, origins, where, f"{prefix}{key}.")
        else:
            tree[key] = value


def find(source: str | Path, folders: Iterable[Path] = ()) -> Path:
    """Return the path of a settings file given by path, or by name: looked for in params/, then in `folders`.

    Of several of one name the others are named in a warning.
    """
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"{path}: settings file not found")
        return path
    places = [folder / f"{source}.yaml" for folder in dict.fromkeys([PARAMS, *folders])]
    if found := [place for place in places if place.is_file()]:
        for other in found[1:]:
            warn_once(f"{display_path(other)} is not used, {display_path(found[0])} is: the name {source} is taken")
        return found[0]
    known = sorted(p.stem for p in PARAMS.glob("[!_]*.yaml"))
    close = nearest(str(source), known, 1)
    hint = f"did you mean {close[0]!r}? There" if close else "there"
    raise UserError(f"no settings {str(source)!r} in {PARAMS}; {hint} are {', '.join(known)}")


def parse_override(text: str) -> tuple[str, Any]:
    """Split "a.b=c" into its key and its value, read as YAML."""
    key, sign, value = text.partition("=")
    key = key.strip()
    if not sign or not all(key.split(".")):
        raise UserError(f"--set {text}: expected key=value, for example --set train.epochs=10")
    return key, yaml_reader.parse(value, f"--set {key}={_shortened(value)}")


def read_yaml(path: str | Path) -> Tree:
    """Read a YAML mapping, its keys as text; a `UserError` names the file and the line (`utils.core.yaml_reader`)."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: file not found") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not readable as YAML: no UTF-8 text ({error.reason})") from None
    tree = yaml_reader.parse(text, display_path(path))
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected a mapping of settings, found {type(tree).__name__}")
    return tree


def save(settings: BaseModel, path: str | Path) -> None:
    """Write resolved settings as YAML that `load` reads back."""
    tree = settings.model_dump(mode="json")
    text = yaml.dump(tree, Dumper=yaml_reader.Dumper, sort_keys=False, allow_unicode=True)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def absolute(settings: S) -> S:
    """Return settings whose paths (`UserPath`) are those of the files they name now, from whatever folder."""
    changed: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            changed[name] = absolute(value)
        elif isinstance(value, str) and UserPath in (field.annotation, *get_args(field.annotation)):
            changed[name] = str(Path(value).resolve())
    return settings.model_copy(update=changed)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as {"a.b": value}."""
    result: dict[str, Any] = {}
    for key, value in tree.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result


def validate(schema: type[S], tree: Tree, where: str, origins: Origins | None = None, prefix: str | None = None) -> S:
    """Check a plain mapping against `schema`; every problem is one sentence of a `UserError`.

    `prefix` is put before the keys that messages name: the section that `tree` stands in.
    """
    try:
        settings = schema.model_validate(tree)
        errors = list(_switches(tree, settings))
        if errors:
            raise ValidationError.from_exception_data("", errors)
        return settings
    except ValidationError as error:
        problems = [_sentence(schema, e, tree, where, origins or {}, prefix) for e in error.errors()]
        more = f"; and {len(problems) - 3} more problems" if len(problems) > 3 else ""
        raise UserError("; ".join(problems[:3]) + more) from None


def _switches(given: Any, settings: Any, place: tuple[str | int, ...] = ()) -> Iterator[InitErrorDetails]:
    """Yield what was given as true or false and taken for a number."""
    if isinstance(given, bool) and type(settings) in (int, float):
        yield {"type": f"{type(settings).__name__}_type", "loc": place, "input": given}  # as pydantic calls it
    elif isinstance(given, dict):
        below = settings if isinstance(settings, dict) else vars(settings) if isinstance(settings, BaseModel) else {}
        for key, value in given.items():
            yield from _switches(value, below.get(key), (*place, key))
    elif isinstance(given, list | tuple) and isinstance(settings, list | tuple):
        for number, pair in enumerate(zip(given, settings, strict=False)):
            yield from _switches(*pair, (*place, number))


def _sentence(
    schema: type[BaseModel], error: ErrorDetails, tree: Tree, where: str, origins: Origins, prefix: str | None
) -> str:
    keys = _typed_keys(error, tree)
    parts = [prefix, *keys] if prefix else keys
    dotted = ".".join(parts)
    sections = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    place = next((origins[section] for section in sections if section in origins), where)
    kind, value, message = error["type"], error["input"], error["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = _known_keys(schema, tree, f"{prefix}." if prefix else "")
        alike = [k for k in known if k.split(".")[-1] == parts[-1]]
        close = alike[:3] or nearest(dotted, known, 1)
        siblings = [k for k in known if k.split(".")[:-1] == parts[:-1]]
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known keys: {', '.join(siblings)}"
        return f"{place}: unknown key {dotted!r}; {hint}"
    if kind == "missing":
        return f"{place}: {dotted!r} is missing"
    if kind in ("model_type", "model_attributes_type"):
        message = "expected a mapping of settings"
    elif kind == "string_type" and isinstance(value, int | float):
        message += "; put it in quotes if it is text"
    elif kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        message += _permitted(schema, keys)
    found = "" if isinstance(value, dict) else f" = {_short(value)}"
    return f"{place}: {dotted or 'settings'}{found}: {message[0].lower() + message[1:]}"


def _typed_keys(error: ErrorDetails, tree: Tree) -> list[str]:
    """Return the path of an error as keys that the user typed.

    pydantic also puts in which of several classes it tried ("model.decoder.channels"): what leads no further into the
    settings is such a tag.
    """
    keys: list[str] = []
    node: Any = tree
    for place, part in enumerate(error["loc"]):
        if part in (node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()):
            node = node[part]
        elif not (error["type"] == "missing" and place == len(error["loc"]) - 1):
            continue
        keys.append(str(part))
    return keys


def _known_keys(schema: type[BaseModel], tree: Any, prefix: str) -> list[str]:
    """Return every key that `schema` knows, dotted; of alternatives the one that `tree` chooses."""
    keys = []
    for name, field in schema.model_fields.items():
        keys.append(prefix + name)
        below = tree.get(name) if isinstance(tree, dict) else None
        schemas = _schemas(field)
        if isinstance(field.discriminator, str) and isinstance(below, dict):
            tag = below.get(field.discriminator)
            schemas = [s for s in schemas if tag in get_args(s.model_fields[field.discriminator].annotation)]
        for inner in schemas:
            keys += _known_keys(inner, below, f"{prefix}{name}.")
    return keys


def _permitted(schema: type[BaseModel], keys: list[str]) -> str:
    """Return " (permitted: at least 0 and at most 1)" where a field has bounds on both sides, else ""."""
    schemas = [schema]
    for key in keys:
        if len(schemas) != 1 or key not in schemas[0].model_fields:
            return ""
        field = schemas[0].model_fields[key]
        schemas = _schemas(field)
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    limits = [(words[name], getattr(part, name, None)) for part in field.metadata for name in words]
    bounds = [f"{word} {limit:g}" for word, limit in limits if limit is not None]
    return f" (permitted: {' and '.join(bounds)})" if len(bounds) == 2 else ""


def _schemas(field: FieldInfo) -> list[type[BaseModel]]:
    """Return the settings classes that a field may hold."""
    kinds = [field.annotation, *get_args(field.annotation)]
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _short(value: Any) -> str:
    return _shortened(repr(value))


def _shortened(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:90]}... ({len(text)} characters)"
