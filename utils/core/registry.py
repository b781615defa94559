"""Names that stand for implementations, so that a new one is a file plus a line, or another package's.

    STAGERS = Registry("stager", "sleep_interpreter.stagers", {"yasa": "package.module:YasaStager"})
    STAGERS.names()          # what a command line offers
    STAGERS.load("yasa")     # imports the module only now

Another package registers its own by an entry point of the group in its pyproject.toml:

    [project.entry-points."sleep_interpreter.stagers"]
    mine = "my_package.my_module:MyStager"
"""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pkgutil import resolve_name
from typing import Any

from sleep_interpreter.utils.core.errors import UserError, nearest


class Registry:
    """Implementations of one thing, by name.

    `kind` says in messages what they are ("stager"), `group` names the entry points of other packages, `targets` are
    our own: {name: "module:attribute"}, of which a module is imported when it is needed.
    """

    def __init__(self, kind: str, group: str, targets: Mapping[str, str]) -> None:
        self.kind, self.group = kind, group
        self._targets: dict[str, str | Callable[..., Any]] = dict(targets)

    def register(self, name: str, implementation: Callable[..., Any]) -> None:
        """Add an implementation of this process; one of the same name is replaced."""
        self._targets[name] = implementation

    def names(self) -> tuple[str, ...]:
        """Return all names: our own in their order, then those of other packages."""
        return tuple(dict.fromkeys([*self._targets, *sorted(entry_points(group=self.group).names)]))

    def check(self, name: str) -> str:
        """Return the name, or raise a `UserError` that says which names are registered."""
        if name in self._targets:  # entry points take 20 ms to look up
            return name
        known = self.names()
        if name not in known:
            close = nearest(name, known, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UserError(f"unknown {self.kind} {name!r}; {hint}registered: {', '.join(known)}")
        return name

    def load(self, name: str) -> Any:
        """Import and return an implementation; a `UserError` where none is registered, or its package cannot be
        imported.
        """
        target = self._targets.get(self.check(name))
        if callable(target):
            return target
        try:
            if target is None:
                (point,) = entry_points(group=self.group, name=name)
                return point.load()
            return resolve_name(target)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(f"{self.kind} {name!r} cannot be loaded: {error}") from error
