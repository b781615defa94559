"""Simulate a data set in the published layout, to try every script without any real data.

A first, simple model: every item has a weak signal of its own in the EEG after a cue, similar in all
subjects and shared between wake and sleep; see params/simulation.yaml for what is planted and how strongly.
No figure made from simulated data says anything about people: every file carries the mark "simulated".

  python data/simulate.py --preset test                 small and fast: 4 + 2 subjects, about 150 MB
  python data/simulate.py --preset demo                 16 + 6 subjects, about 2 GB: enough to train a decoder
  python data/simulate.py --recording                   only the continuous recording (14 min, BrainVision)

Written to data/simulated/<preset>/ unless --out names another folder.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from utils.cli import parser, run
from utils.paths import DATA, shown


def main(argv=None):
    arguments = parser(__doc__)
    arguments.add_argument("--preset", choices=["demo", "test"], help="size of the data set")
    arguments.add_argument("--quick", action="store_true", help="the same as --preset test")
    arguments.add_argument("--out", type=Path, metavar="DIR", help="folder of the data set")
    arguments.add_argument(
        "--recording", action="store_true", help="only the continuous recording (of preset demo)"
    )
    arguments.add_argument("--force", action="store_true", help="replace simulated data of other settings")
    arguments.add_argument(
        "--verify", action="store_true", help="compare checksums too, and write damaged files again"
    )
    arguments.add_argument("--set", dest="overrides", metavar="a.b=c", action="append", default=[])
    args = arguments.parse_args(argv)
    preset = args.preset or ("test" if args.quick else "demo" if args.recording else None)
    if preset is None or (args.quick and preset != "test"):
        arguments.error("give --preset demo or --preset test (--quick means test)")
    from data.simulation_dataset import write_dataset
    from data.simulation_settings import load_settings

    default = DATA / "simulated" / (f"{preset}_recording" if args.recording else preset)
    out = args.out or default
    write_dataset(load_settings(preset, args.overrides), out, args.recording, args.force, args.verify)
    print(f"simulated data: {shown(out)}")


if __name__ == "__main__":
    sys.exit(run(main))
