"""Rehearse a night on this machine: a stand-in amplifier over LSL, real sound, markers, and say how it went.

A session runs live beside an outlet in another process (64 channels, 500 Hz, a counter in the first one), if
wished beside a process that keeps a core busy. In the end: samples lost, and as distributions the latency of
samples, the onset of cues against their schedule, markers against sound, staging, decoding, the recorder's
syncs.

Data:     none; noise that a biased stager calls N2, so that cues are played.
Expect:   0 samples lost; onsets within 1 ms of each other; docs/realtime.md has our figures.

  python realtime/rehearse.py --minutes 10 --busy
  make soak                                        (an hour)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.utils.core.command_line import out_folder, parser, run, say


def main(argv: list[str] | None = None) -> int:
    """Run a rehearsal and print its table."""
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=10.0)
    arguments.add_argument("--busy", action="store_true", help="another process keeps one core busy")
    arguments.add_argument("--monitor", action="store_true", help="with the monitor beside it")
    arguments.add_argument("--members", type=int, default=5, help="of the decoder (full size)")
    arguments.add_argument("--card", metavar="YAML", help="data card of the decoder (default: the published one)")
    arguments.add_argument("--sink", choices=["auto", "file", "device"], default="auto")
    arguments.add_argument("--out", type=out_folder, help="default: results/rehearsal")
    args = arguments.parse_args(argv)
    from sleep_interpreter.realtime.Setup.rehearsal import rehearse  # lazy: start-up

    lines, good = rehearse(args)
    say(*lines)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(run(main))
