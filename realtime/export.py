"""Export a session's recording: segments joined, gaps of their true length, the log's events as annotations.

Input:    a session's folder with a recording (live sessions)
Output:   --bids DIR (mne-bids), --edf FILE.edf, --bdf FILE.bdf, --brainvision FILE.vhdr; existing files stay

  python realtime/export.py results/realtime/s1/session_001 --bids data/bids --edf night.edf
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.utils.core.command_line import parser, run, say


def main(argv: Sequence[str] | None = None) -> int:
    """Write what was asked for."""
    arguments = parser(__doc__)
    arguments.add_argument("session", type=Path, help="the session's folder")
    arguments.add_argument("--bids", type=Path, metavar="DIR")
    arguments.add_argument("--edf", type=Path, metavar="FILE")
    arguments.add_argument("--bdf", type=Path, metavar="FILE")
    arguments.add_argument("--brainvision", type=Path, metavar="FILE")
    args = arguments.parse_args(argv)
    from sleep_interpreter.realtime.Recording import export  # lazy: start-up

    wanted = [
        (args.bids, export.export_bids), (args.edf, export.export_edf), (args.bdf, export.export_edf),
        (args.brainvision, export.export_brainvision),
    ]  # fmt: skip
    if not any(path for path, _ in wanted):
        arguments.error("say what to write: --bids, --edf, --bdf or --brainvision")
    for path, write in wanted:
        if path is not None:
            say(f"written: {write(args.session, path)}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
