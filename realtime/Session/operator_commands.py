"""What the operator can ask of a session: taken at a sample, logged with who asked, answered."""

import logging

from sleep_interpreter.realtime.Control.request import checked

logger = logging.getLogger(__name__)


def left(events):
    """Return the commands by which a session that goes on is as the operator left it: volume, and a pause.

    Parameters
    ----------
    events : sequence of dict
        Of the session before, as in log.jsonl.

    Returns
    -------
    details : list of dict
        For `Commands.repeat`; their origin is "resume".
    """
    found = []
    volumes = [e["detail"]["db"] for e in events if e["event"] == "volume"]
    if volumes:
        found.append(("volume", {"db": volumes[-1]}))
    given = [e["detail"] for e in events if e["event"] == "command" and e["detail"]["ok"]]
    asked = [detail["command"] for detail in given if detail["command"] in ("pause", "resume")]
    if asked and asked[-1] == "pause":
        found.append(("pause", {}))
    return [{"command": name, "args": args, "origin": "resume", "ok": True} for name, args in found]


class Commands:
    """Carry out commands.

    Parameters
    ----------
    session : Session
    stop : StopRequest
    """

    def __init__(self, session, stop):
        self._session, self._stop = session, stop
        self._known = {
            "pause": self._pause,
            "resume": self._resume,
            "volume": self._volume,
            "mark": self._mark,
            "group": self._group,
            "stop": self._end,
        }

    def take(self, now, request):
        """Carry out a request at sample `now`, log it and answer it.

        Parameters
        ----------
        now : int
        request : sleep_interpreter.realtime.Control.request.Request
        """
        if request.command == "status":
            request.reply(True, sample=now, text="", state=self._session.status())
            return
        args = {}  # what did not pass the check does not reach the log either
        try:
            args = checked(request.command, request.args)
            text = self._do(now, request.command, args)
        except ValueError as error:
            self._log(now, request.command, args, request.origin, False, str(error))
            request.reply(False, sample=now, error=str(error))
            return
        self._log(now, request.command, args, request.origin, True, text)
        request.reply(True, sample=now, text=text)

    def repeat(self, now, detail):
        """Carry out a command of the log that is replayed; one that was refused then is refused again."""
        if detail["ok"]:
            text = self._do(now, detail["command"], detail["args"])
            self._log(now, detail["command"], detail["args"], detail["origin"], True, text)
        else:
            self._log(now, detail["command"], detail["args"], detail["origin"], False, detail["text"])

    def _do(self, now, command, args):
        return self._known[command](now, **args)

    def _log(self, now, command, args, origin, ok, text):
        self._session.night.write(now, "command", command=command, args=args, origin=origin, ok=ok, text=text)
        logger.info("%s (%s): %s", command, origin, text)

    def _pause(self, now):
        self._session.cueing.block(now, "operator", "paused by the operator")
        return "cueing is paused"

    def _resume(self, now):
        cueing = self._session.cueing
        cueing.unblock(now, "operator")
        cueing.unblock(now, "arousal")
        why = cueing.why()
        return "cueing goes on" if why is None else f"cueing goes on as soon as it may: {why}"

    def _volume(self, now, db=None, change_db=None):
        night = self._session.night
        wanted = db if db is not None else night.sink.volume_db + change_db
        level = night.sink.set_volume(wanted)
        night.write(now, "volume", db=round(level, 3))
        capped = f"; the cap is {night.settings.audio.max_db:g} dB" if level < wanted else ""
        return f"volume {level:g} dB{capped}"

    def _mark(self, now, text=""):
        night = self._session.night
        recorder = getattr(night.source, "recorder", None)
        if recorder is not None and not night.inputs.replaying:
            night.source.annotate(f"mark {text}".strip())
        return f"marked: {text}" if text else "marked"

    def _group(self, now):
        self._session.cueing.switch_group(now)
        return f"group {self._session.cueing.schedule.group(now)}"

    def _end(self, now):
        self._stop.ask()
        return "the session ends"
