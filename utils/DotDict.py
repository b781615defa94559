"""A dictionary whose keys are also attributes, as in the published layout."""

from collections.abc import Iterable, Mapping
from typing import Any

from sleep_interpreter.utils.core.errors import did_you_mean


class DotDict(dict):
    """Nested mapping with attribute access: ``d.a.b`` is ``d["a"]["b"]``; of no such key the nearest one is named.

    A key that is also the name of a dict method ("items") is reached as ``d["items"]``.
    """

    def __init__(self, mapping: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), **more: Any) -> None:
        super().__init__()
        for key, value in dict(mapping, **more).items():
            self[key] = value

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, _viewed(value))

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            hint = did_you_mean(name, self)
            raise AttributeError(f"no key {name!r}{hint and f'; {hint}'}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"no key {name!r}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested dictionaries and lists."""
        return {key: _plain(value) for key, value in self.items()}


def _viewed(value: Any) -> Any:
    if isinstance(value, dict) and not isinstance(value, DotDict):
        return DotDict(value)
    return [_viewed(v) for v in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, DotDict):
        return value.to_dict()
    return [_plain(v) for v in value] if isinstance(value, list) else value
