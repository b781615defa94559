"""Simulate people, their nights and their memory, to try every script without any real data.

Every item has a weak signal of its own in the EEG after a picture, a sound or a cue in sleep, similar in all
subjects; params/simulation.yaml says what is planted and how strongly, docs/data_format.md what is written.
No figure made from simulated data says anything about people: every file carries the mark "simulated".

  python data/simulate.py --preset test                 small and fast: 4 + 2 subjects, about 170 MB
  python data/simulate.py --preset demo                 16 + 6 subjects, 2.8 GB: enough to train a decoder
  python data/simulate.py --preset paper                123 + 12 subjects as published, 33 GB
  python data/simulate.py --preset demo --bids          raw nights too, as a BIDS folder (1.6 GB a night)
  python data/simulate.py --recording                   only the short recording (20 min, BrainVision)
  python data/simulate.py --preset test --card my.yaml  another experiment: items, channels, rate, windows

Written to data/simulated/<preset>/ unless --out names another folder. Interrupted, the same command goes on.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.utils.core.command_line import out_folder, parser, run
from sleep_interpreter.utils.core.paths import DATA, display_path


def main(argv: list[str] | None = None) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--preset", choices=["demo", "test", "paper"], help="size of the data set")
    arguments.add_argument("--quick", action="store_true", help="the same as --preset test")
    arguments.add_argument("--card", type=Path, metavar="FILE", help="data card (params/published_card.yaml)")
    arguments.add_argument("--out", type=out_folder, metavar="DIR", help="folder of the data set")
    arguments.add_argument("--bids", action="store_true", help="raw nights and wake sessions too")
    arguments.add_argument("--recording", action="store_true", help="only the short one (of preset demo)")
    arguments.add_argument("--force", action="store_true", help="replace simulated data of other settings")
    arguments.add_argument("--verify", action="store_true", help="compare checksums too, mend what differs")
    arguments.add_argument("--jobs", type=int, metavar="N", help="processes (all cores; 1 for preset test)")
    arguments.add_argument(
        "--set", dest="overrides", metavar="a.b=c", action="append", default=[], help="change one setting"
    )
    args = arguments.parse_args(argv)
    preset = args.preset or ("test" if args.quick else "demo" if args.recording else None)
    if preset is None or (args.quick and preset != "test"):
        arguments.error("give --preset demo, test or paper (--quick means test)")
    processes = args.jobs if args.jobs is not None else 1 if preset == "test" else os.cpu_count() or 1
    from sleep_interpreter.data.simulation.dataset import write_dataset  # lazy: start-up
    from sleep_interpreter.data.simulation.settings import load_settings  # lazy: start-up

    out = args.out or DATA / "simulated" / (f"{preset}_recording" if args.recording else preset)
    write_dataset(
        load_settings(preset, args.overrides, args.card), out, recording_only=args.recording, bids=args.bids,
        force=args.force, verify=args.verify, processes=processes,
    )  # fmt: skip
    print(f"simulated data: {display_path(out)}")


if __name__ == "__main__":
    sys.exit(run(main))
