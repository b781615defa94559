"""Show a session in the browser: one that runs, or one that has ended. On this machine alone (127.0.0.1).

Give a session's folder, or the folder of all sessions for a list. The address that is printed holds a token:
who has it may pause, change the volume and stop. The second address may only look.

  python realtime/monitor.py results/realtime/s1/session_001
  python realtime/monitor.py results/realtime

What the page shows: docs/monitor.md.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.realtime.Monitor.server import serve
from sleep_interpreter.utils.core.command_line import parser, run, say


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C."""
    arguments = parser(__doc__)
    arguments.add_argument("folder", type=Path, help="of a session, or of all sessions")
    arguments.add_argument("--port", type=int, default=0, help="default: any that is free")
    arguments.add_argument("--quiet", action="store_true", help="print the two addresses only")
    args = arguments.parse_args(argv)

    def announce(url: str, view_url: str) -> None:
        say(url, view_url) if args.quiet else say(f"open      {url}", f"look only {view_url}", "Ctrl-C ends it")

    serve(args.folder, args.port, announce)


if __name__ == "__main__":
    sys.exit(run(main))
