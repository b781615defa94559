"""A connection to the monitor that nobody can hold open without asking, or without taking the answer."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_HEADER_SECONDS, _ANSWER_SECONDS = 10.0, 60.0


class LimitedConnection(H11Protocol):
    """Uvicorn's own, which would wait for ever: for the header of a request, and for a reader of the answer."""

    _deadline: asyncio.TimerHandle | None = None
    _answers, _upgraded = False, False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm(_HEADER_SECONDS)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()  # from here on its own limit for the next request counts ...
        self._answers = False
        self._arm(None)
        if self._is_answering():  # ... unless that had come already
            self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arm(None)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._upgraded = True
        self._arm(None)
        super().handle_websocket_upgrade(event)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        answers = self._is_answering()
        if not self._upgraded and (answers != self._answers or self._deadline is None):
            self._answers = answers
            self._arm(_ANSWER_SECONDS if answers else _HEADER_SECONDS)

    def _arm(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)
