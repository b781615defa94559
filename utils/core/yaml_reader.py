"""Strict YAML for settings: nothing is lost, nothing is guessed, and every refusal is one sentence.

A key that stands twice is refused, and so is a value that YAML 1.1 and YAML 1.2 read differently, such as 010
or 12:30:00. `yes`, `no`, `on` and `off` are text, which pydantic takes as true or false where a setting is
that. Dates are text, 1e5 is a number, and keys are text as they are typed.
"""

import copy
import re
from functools import lru_cache
from typing import Any

import yaml

from sleep_interpreter.utils.core.errors import UserError

MAX_DEPTH = 50
"""Levels of nesting; settings have about five. An anchor that contains itself has no end."""
MAX_VALUES = 100_000
"""Values in a file with its anchors expanded: nine short lines of anchors can hold a billion."""
MAX_INTEGER = 2**63 - 1

_PATTERNS = {
    "tag:yaml.org,2002:null": r"~|null|Null|NULL|",
    "tag:yaml.org,2002:bool": r"true|True|TRUE|false|False|FALSE",
    "tag:yaml.org,2002:merge": r"<<",
    "tag:yaml.org,2002:int": r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+",
    # leading zero, other bases, base 60 (12:30 is 750), digits in groups
    "!ambiguous": r"[-+]?(0[0-9_]+|0b[01_]+|0o[0-7]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"
    r"|(?=.*_)([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?)",
    "tag:yaml.org,2002:float": r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"
    r"|\.(nan|NaN|NAN)",
}
"""What a value without quotes is: the first pattern that fits the whole of it decides, else it is text."""
_MERGE = "tag:yaml.org,2002:merge"
_WHOLE = ("tag:yaml.org,2002:float", "tag:yaml.org,2002:int")
"""!!float 3, which is well said."""
_RESOLVERS = [(tag, re.compile(f"(?:{pattern})$")) for tag, pattern in _PATTERNS.items()]


class _Loader(yaml.SafeLoader):
    merged = 0
    """Values looked at for <<, of which a few lines can ask for a billion."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == _MERGE:
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal("a key must be text, found a list or a mapping", key)
            if key.value in lines:
                raise _refusal(f"key {key.value!r} stands twice, first in line {lines[key.value]}", key)
            lines[key.value] = key.start_mark.line + 1
            key.tag = "tag:yaml.org,2002:str"
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        plain = self.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
        if plain == "!ambiguous" and node.tag != "tag:yaml.org,2002:str":
            node.tag = plain
        elif node.tag not in ("tag:yaml.org,2002:str", plain) and (node.tag, plain) != _WHOLE:
            raise _refusal(f"{node.value!r} is not what its tag {node.tag!r} says; leave the tag out", node)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put what << names first, in a list the first that has a key counts: releases of PyYAML differ there."""
        merges = [value for key, value in node.value if key.tag == _MERGE]
        if not merges:
            return
        own = node.value = [pair for pair in node.value if pair[0].tag != _MERGE]
        merged: list[tuple[yaml.Node, yaml.Node]] = []
        for merge in merges:
            pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
            for source in merge.value if isinstance(merge, yaml.SequenceNode) else [merge]:
                if not isinstance(source, yaml.MappingNode):
                    raise _refusal("<< takes a mapping, or a list of mappings", source)
                self.flatten_mapping(source)
                self.merged += len(source.value)
                if self.merged > MAX_VALUES:
                    raise _refusal(f"<< merges more than {MAX_VALUES} values; no settings are that many", node)
                for name, pair in {pair[0].value: pair for pair in source.value}.items():
                    pairs.setdefault(name, pair)
            merged += pairs.values()
        node.value = merged + own

    def refuse_merge(self, node: yaml.ScalarNode) -> None:
        raise _refusal('<< stands before a colon and merges a mapping; write "<<" if text is meant', node)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        value = self.construct_yaml_int(node)
        if abs(value) > MAX_INTEGER:
            raise _refusal("a whole number of this size is not supported", node)
        return value

    def refuse_ambiguous(self, node: yaml.ScalarNode) -> None:
        raise _refusal(
            f"{node.value} is not the same to all readers of YAML (octal, base 60, text ...); write a plain "
            f'decimal number, or "{node.value}" if text is meant',
            node,
        )


_Loader.yaml_implicit_resolvers = {None: _RESOLVERS}
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
_Loader.add_constructor("!ambiguous", _Loader.refuse_ambiguous)
_Loader.add_constructor(_MERGE, _Loader.refuse_merge)


class Dumper(yaml.SafeDumper):
    """Writes YAML that this module reads back: text that either would take for something else is quoted."""


Dumper.yaml_implicit_resolvers = {**yaml.SafeDumper.yaml_implicit_resolvers, None: _RESOLVERS}


def _refusal(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def parse(text: str, where: str) -> Any:
    """Return what a YAML text holds; messages begin with `where`, the file or the option.

    A `UserError` refuses what is no YAML, a key that stands twice, an ambiguous value, an anchor that contains
    itself, and values beyond any use.
    """
    try:
        content = _load(text)
    except RecursionError:
        raise UserError(f"{where}: nested deeper than any settings are (permitted: {MAX_DEPTH} levels)") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark and "\n" in text.strip() else ""
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise UserError(f"{where}{line}: not readable as YAML: {reason}") from None
    except (yaml.YAMLError, ValueError, LookupError) as error:
        raise UserError(f"{where}: not readable as YAML: {' '.join(str(error).split())[:200]}") from None
    _check_size(content, where)
    return copy.deepcopy(content)


@lru_cache(maxsize=64)
def _load(text: str) -> Any:
    """Return what a text holds; the same few files are read again and again (never change the result)."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _check_size(value: Any, where: str, depth: int = 0, count: int = 0) -> int:
    if depth > MAX_DEPTH:
        raise UserError(f"{where}: nested deeper than {MAX_DEPTH} levels, or an anchor (&) that contains itself")
    if count > MAX_VALUES:
        raise UserError(f"{where}: more than {MAX_VALUES} values; no settings are that many")
    for text in (*value, *value.values()) if isinstance(value, dict) else (value,):
        if isinstance(text, str) and not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
            raise UserError(f"{where}: half a character ({text[:40]!a}), which no file can hold; write it in full")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | set | tuple) else ()
    for item in inner:
        count = _check_size(item, where, depth + 1, count + 1)
    return count
