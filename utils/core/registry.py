"""Exchangeable parts by name: the project's own ones, and those that other packages bring as entry points."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sleep_interpreter.utils.core.errors import UserError


class Registry:
    """Names of parts, and where each is found; nothing is imported before it is asked for.

    Parameters
    ----------
    kind : str
        What the parts are, for messages: "stager".
    group : str
        Of entry points in other packages; a name of our own cannot be taken by one.
    own : mapping of str to str
        Name to "module:attribute".
    """

    def __init__(self, kind: str, group: str, own: Mapping[str, str]):
        self._kind, self._group, self._own = kind, group, own

    def names(self) -> list[str]:
        """Return every name, our own ones first."""
        return list(
            dict.fromkeys([*self._own, *sorted(point.name for point in entry_points(group=self._group))])
        )

    def check(self, name: str) -> str:
        """Return `name`, or raise a `UserError` with the known names."""
        if name not in self._own and name not in self.names():  # entry points take 20 ms to look up
            raise UserError(f"no such {self._kind} is registered; there are {', '.join(self.names())}")
        return name

    def load(self, name: str) -> Any:
        """Return the part of this name.

        Raises
        ------
        UserError
            Unknown, with the known names; or its module cannot be imported.
        """
        self.check(name)
        if name in self._own:
            return EntryPoint(name, self._own[name], self._group).load()
        (point, *_) = entry_points(group=self._group, name=name)
        try:
            return point.load()
        except (ImportError, AttributeError) as error:
            raise UserError(f"{self._kind} {name!r} ({point.value}) cannot be imported: {error}") from error
