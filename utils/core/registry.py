"""Names that stand for implementations, so that a new one is a file plus a line, or another package's.

    STAGERS = Registry("stager", "sleep_interpreter.stagers", {"yasa": "package.module:YasaStager"})
    STAGERS.names()          # what a command line offers
    STAGERS.load("yasa")     # imports the module only now

Another package registers its own by an entry point of the group in its pyproject.toml:

    [project.entry-points."sleep_interpreter.stagers"]
    mine = "my_package.my_module:MyStager"

Whatever is wrong with another package's part is one sentence, and none takes the place of ours.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name
from types import FunctionType
from typing import Any

from sleep_interpreter.utils.core.errors import UserError, did_you_mean, told, warn_once


class Registry:
    """Implementations of one thing, by name.

    `kind` says in messages what they are ("stager"), `group` names the entry points of other packages, `targets` are
    our own: {name: "module:attribute"}, of which a module is imported when it is needed. `protocol` is what other
    packages' parts are checked against ("module:class"): the class that `load` returns, and what `make` makes of it
    by its classmethod `maker` ("" calls the part itself), except for what comes `later`. Names in `taken` have a
    meaning of their own.
    """

    def __init__(
        self, kind: str, group: str, targets: Mapping[str, str], protocol: str = "", maker: str = "",
        later: Collection[str] = (), taken: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.kind, self.group = kind, group
        self._targets: dict[str, str | Callable[..., Any]] = dict(targets)
        self._protocol, self._maker, self._later, self._taken = protocol, maker, later, taken
        self._looked = False

    def register(self, name: str, implementation: Callable[..., Any]) -> None:
        """Add an implementation of this process; one of the same name is replaced."""
        self._targets[name] = implementation

    def names(self) -> tuple[str, ...]:
        """Return all names: our own in their order, then those of other packages."""
        return (*self._targets, *sorted(self._foreign()))

    def check(self, name: str) -> str:
        """Return the name, or raise a `UserError` that says which names are registered."""
        if name in self._targets:  # entry points take 20 ms to look up
            return name
        known = self.names()
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f"unknown {self.kind} {name!r}; {hint and f'{hint} '}registered: {', '.join(known)}")
        return name

    def load(self, name: str) -> Any:
        """Import and return an implementation; a `UserError` where none is registered, its package cannot be
        imported, or it is not what it should be."""
        target = self._targets.get(self.check(name))
        if isinstance(target, str):
            if not self._looked:
                self._foreign()
            try:
                return resolve_name(target)
            except (ImportError, AttributeError, ValueError) as error:
                raise UserError(f"{self.kind} {name!r} cannot be loaded: {error}") from error
        points = [] if target else self._foreign()[name]
        if len(points) > 1:
            raise self._refusal(name, f"{len(points)} packages have one of that name, keep one")
        try:
            part = target or points[0].load()
            problem = self.problem(name, part)
        except Exception as error:  # whatever another package raises
            raise self._refusal(name, told(error)) from error
        if problem:
            raise self._refusal(name, problem)
        return part

    def make(self, name: str, *arguments: Any) -> Any:
        """Return what an implementation makes of the arguments; a `UserError` where `load` raises one, and where
        another package's part fails or makes something else."""
        part = self.load(name)
        made_by = getattr(part, self._maker) if self._maker else part
        if isinstance(self._targets.get(name), str):
            return made_by(*arguments)
        try:
            made = made_by(*arguments)
            problem = unfit(made, resolve_name(self._protocol), self._later)
        except UserError:
            raise
        except Exception as error:
            raise self._refusal(name, told(error)) from error
        if problem:
            raise self._refusal(name, problem)
        return made

    def problem(self, name: str, part: Any) -> str:
        """Return what is wrong with another package's part, or ""."""
        if not callable(part):
            return f"it is {part!r:.100}, expected a class or function"
        if self._protocol and (self._maker or isinstance(part, type)):
            return unfit(part, resolve_name(self._protocol), self._later, made=False)
        return ""

    def _foreign(self) -> dict[str, list[EntryPoint]]:
        """Return the entry points of other packages by name, and say of those that have a name of ours."""
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            if point.name in self._targets or point.name in self._taken:
                place = _place(point)
                warn_once(f"{self.kind} {point.name!r} of {place} is not used: the name is taken, rename it there")
            else:
                found.setdefault(point.name, []).append(point)
        self._looked = True
        return found

    def _refusal(self, name: str, problem: str) -> UserError:
        places = [_place(point) for point in self._foreign().get(name, ())] or ["this process"]
        return UserError(
            f"{self.kind} {name!r} cannot be loaded: {problem} ({' and '.join(places)}: mend or uninstall it)"
        )


def unfit(part: Any, protocol: type, later: Collection[str] = (), made: bool = True) -> str:
    """Return what a part lacks of a protocol and which methods do not take what they should, or "".

    A class that has not `made` anything yet need not have what its instances are given, and nobody has to have what
    comes `later`.
    """
    own = vars(protocol)
    names = [n for n in {**inspect.get_annotations(protocol), **own} if not n.startswith("_") and n not in later]
    if not made:
        names = [n for n in names if n in own and not isinstance(own[n], property)]
    unwritten: frozenset[str] = getattr(part, "__abstractmethods__", frozenset())
    missing = [n for n in names if not hasattr(part, n)]
    missing += sorted(unwritten.difference(missing))
    problems = [f"it lacks {', '.join(missing)}"] if missing else []
    return "; ".join(problems + [p for n in names if n not in missing and (p := _misfit(part, protocol, n, made))])


def _misfit(part: Any, protocol: type, name: str, made: bool) -> str:
    """Return why a method cannot be called as the protocol says, or ""."""
    wanted, found = inspect.getattr_static(protocol, name, None), getattr(part, name)
    if not isinstance(wanted, FunctionType | classmethod):
        return ""
    if not callable(found):
        return f"{name} is {found!r:.100}, expected a method"
    bound = made or isinstance(inspect.getattr_static(part, name), classmethod | staticmethod)
    if isinstance(wanted, classmethod) and not bound:
        return f"{name} is no classmethod"
    takes = list(inspect.signature(getattr(protocol, name)).parameters.values())[isinstance(wanted, FunctionType) :]
    needed = [*([] if bound else [part]), *(p for p in takes if p.default is p.empty)]
    optional = [p.name for p in takes if p.default is not p.empty]
    try:
        signature = inspect.signature(found)
    except ValueError:  # of a built-in
        return ""
    try:
        signature.bind(*needed, *optional)
        signature.bind(*needed, **dict.fromkeys(optional))
    except TypeError as error:
        return f"{name} must take ({', '.join(p.name for p in takes)}): {error}"
    return ""


def _place(point: EntryPoint) -> str:
    return f"entry point {point.value!r} of package {getattr(point.dist, 'name', None)!r}"
