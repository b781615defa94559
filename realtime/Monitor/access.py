"""Who may do what in the monitor: tokens of the list of sessions, and of each session its own."""

import base64
import hmac
import json
import secrets
from collections.abc import Mapping

from sleep_interpreter.realtime.Utils.json_lines import RateLimit

Session = tuple[str, str]
"""Subject and session, as their folders are called."""
_PER_SECOND = 8


class Access:
    """Tokens that fit one session, or None: the list, from which every session can be opened.

    "control" may do everything, "view" may look, "report" opens the night report and nothing else: a report's address
    is kept in the browser's history. `known` are the "control" and "view" of sessions that have some already, as a
    running one has; a monitor that is started again then knows the same ones. All others are new with every start.
    """

    def __init__(self, known: Mapping[Session, Mapping[str, str]] | None = None) -> None:
        self._secret, self._known = secrets.token_bytes(32), dict(known or {})
        self.commands = RateLimit(_PER_SECOND)

    def token(self, right: str, session: Session | None) -> str:
        """Return the token of a right ("control", "view", "report") to a session, or to the list."""
        known = {} if session is None else self._known.get(session, {})
        if right in known:
            return known[right]
        secret = known["control"].encode() if "control" in known else self._secret
        digest = hmac.digest(secret, json.dumps([right, *(session or ())]).encode(), "sha256")
        return base64.urlsafe_b64encode(digest[:24]).decode()

    def rights(self, token: str | None, session: Session | None) -> str | None:
        """Return "control", "view" or None."""
        return next((right for right in ("control", "view") if self._fits(token, right, session)), None)

    def opens_report(self, token: str | None, session: Session) -> bool:
        """Tell whether a token is that of a session's report."""
        return self._fits(token, "report", session)

    def _fits(self, token: str | None, right: str, session: Session | None) -> bool:
        given = (token or "").encode("utf-8", "replace")
        return hmac.compare_digest(given, self.token(right, session).encode())


def from_here(headers: Mapping[str, str]) -> bool:
    """Tell whether a request names this machine, and comes from this server's own page if from any."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if host.rpartition(":")[0] not in ("127.0.0.1", "localhost"):
        return False
    return origin is None or origin == f"http://{host}"
