"""Control a running session from another terminal: pause, resume, volume, mark, group, accept, stop,
status.

Each command is answered when the session has taken it, and stands in its log with its origin.

  python realtime/control.py results/realtime/s1/session_001 pause
  python realtime/control.py results/realtime/s1/session_001 volume -26
  python realtime/control.py results/realtime/s1/session_001 volume --by -3
  python realtime/control.py results/realtime/s1/session_001 mark "turned over"
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.utils.core.command_line import parser, run, say


def main(argv: list[str] | None = None) -> int:
    """Ask a session, and say what it answered."""
    arguments = parser(__doc__)
    arguments.add_argument("session", type=Path, help="the session's folder")
    commands = ["pause", "resume", "volume", "mark", "group", "accept", "stop", "status"]
    arguments.add_argument("command", choices=commands)
    arguments.add_argument("value", nargs="?", help="volume: dB; mark: text")
    arguments.add_argument("--by", type=float, metavar="DB", help="volume: change by so many dB")
    args = arguments.parse_args(argv)
    from sleep_interpreter.realtime.Control.control_client import Client, arguments_of  # lazy: start-up

    answer = Client(args.session).ask(args.command, **arguments_of(args.command, args.value, args.by))
    state = answer.get("state")
    say(json.dumps(state, indent=2) if state is not None else answer.get("text") or answer.get("error"))
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(run(main))
