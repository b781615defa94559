"""Find how loud the cues should be for one subject: threshold of hearing by a staircase, lying in bed, awake.

The volunteer says after each announced moment whether a sound was heard (y or n); some moments are
silent. The session's level lies --above dB over the threshold, and never over audio.max_db.

Data:     none; the session's own sounds, device and cap, from the same settings.
Expect:   results/realtime/SUBJECT/calibration_001.yaml, for `--set audio.calibration=FILE` of Main_Decode.py.

  python realtime/calibrate.py --subject s01 --config lab.yaml
  python realtime/calibrate.py --subject s01 --simulate -50        (no listener, no sound: to try it)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.utils.core.command_line import out_folder, parser, run, say


def main(argv: list[str] | None = None) -> int:
    """Measure, and write the file."""
    arguments = parser(__doc__)
    arguments.add_argument("--subject", required=True, metavar="ID", help="pseudonym, as in the session")
    arguments.add_argument("--config", metavar="YAML", help="settings file instead of params/realtime.yaml")
    arguments.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="a.b=c", help="change one setting"
    )
    arguments.add_argument("--above", type=float, default=10.0, metavar="DB", help="default: 10 (assumed)")
    arguments.add_argument("--simulate", type=float, metavar="DB", help="a listener with this threshold")
    arguments.add_argument("--out", type=out_folder, help="default: results/realtime/SUBJECT")
    args = arguments.parse_args(argv)
    from sleep_interpreter.realtime.Cues.loudness_calibration import calibrate  # lazy: start-up

    path, found = calibrate(args.subject, args.config, args.overrides, args.above, args.simulate, args.out)
    say(f"threshold {found.threshold_db:g} dB, volume {found.volume_db:g} dB")
    say(f"use it with: --set audio.calibration={path}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
