"""YAML as settings need it: stricter than `yaml.safe_load`, and never a traceback.

A key that stands twice would silently lose its first value, so it is refused. Dates stay text and keys are
text as they are typed (plain YAML reads the key `on` as true and `1` as a number).
"""

import copy
from functools import lru_cache
from typing import ClassVar

import yaml

from sleep_interpreter.utils.core.errors import UserError

DEEPEST = 50
"""Levels of nesting; settings have about five. An anchor that contains itself has no end."""
MOST = 100_000
"""Values in a file with its anchors expanded: nine short lines of anchors can hold a billion."""
LARGEST = 2**63 - 1


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text):
        super().__init__(text)
        self._checked = set()

    def flatten_mapping(self, node):
        # Called before a mapping is made, sometimes twice: after the first time it holds merged keys too.
        if node in self._checked:
            return
        self._checked.add(node)
        lines = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise _refused("a key must be text, found a list or a mapping", key)
            if key.value in lines:
                raise _refused(f"key {key.value!r} stands twice, first in line {lines[key.value]}", key)
            lines[key.value] = key.start_mark.line + 1
            key.tag = "tag:yaml.org,2002:str"
        super().flatten_mapping(node)

    def construct_whole_number(self, node):
        value = self.construct_yaml_int(node)
        if abs(value) > LARGEST:
            raise _refused("a whole number of this size is not supported", node)
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole_number)


def _refused(problem, node):
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def parse(text, where):
    """Return what a YAML text holds.

    Parameters
    ----------
    text : str
    where : str
        What messages name: the file or the option.

    Raises
    ------
    UserError
        No YAML, a key that stands twice, an anchor that contains itself, values beyond any use.
    """
    try:
        tree = _tree(text)
    except RecursionError:
        raise UserError(
            f"{where}: nested deeper than any settings are (permitted: {DEEPEST} levels)"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark and "\n" in text.strip() else ""
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise UserError(f"{where}{line}: not readable as YAML: {reason}") from None
    except (yaml.YAMLError, ValueError, LookupError) as error:
        raise UserError(f"{where}: not readable as YAML: {' '.join(str(error).split())[:200]}") from None
    _count(tree, where, 0, 0)
    return copy.deepcopy(tree)


@lru_cache(maxsize=64)
def _tree(text):
    """Return what a text holds; the same few files are read again and again (never change the result)."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _count(tree, where, level, count):
    if level > DEEPEST:
        raise UserError(
            f"{where}: nested deeper than {DEEPEST} levels, or an anchor (&) that contains itself"
        )
    if count > MOST:
        raise UserError(f"{where}: more than {MOST} values; no settings are that many")
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | set | tuple) else ()
    for value in values:
        count = _count(value, where, level + 1, count + 1)
    return count
