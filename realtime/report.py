"""The night report: one HTML file from a session's folder, whether the session ended or broke off.

Data:     a folder that realtime/Main_Decode.py made: its log, and its recording where there is one.
Expect:   report.html in that folder: night with cues, phases, evoked responses, decodes with chance and
          interval, latencies, quality, faults, settings. It asks nothing of the network.

  python realtime/report.py results/realtime/s1/session_001
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.utils.core.command_line import parser, run, say


def main(argv: list[str] | None = None) -> None:
    """Write the reports of the sessions given."""
    arguments = parser(__doc__)
    arguments.add_argument("session", type=Path, nargs="+", help="the session's folder")
    args = arguments.parse_args(argv)
    from sleep_interpreter.realtime.Report.night_report import write_night_report  # lazy: start-up

    for folder in args.session:
        say(write_night_report(folder))


if __name__ == "__main__":
    sys.exit(run(main))
