"""Expert hypnograms of the published label file: what a cohort looks like.

Data      data/SI Staging Label/Whole_label_data.pickle (or a file or data folder given)
Prints    sleep statistics, bouts and the file's quirks, training and test recordings apart
Writes    results/hypnograms/: nights.csv, cohort.json, cohort.png

The published file does not tell W from N1. Both are WAKE here, so "wake" includes N1, sleep latency is that
to N2, and N1 is always 0 min.

  python data/hypnograms.py
  python data/hypnograms.py path/to/Whole_label_data.pickle --out results/my_hypnograms
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.utils.core.command_line import out_folder, parser, run, say
from sleep_interpreter.utils.core.paths import DATA, RESULTS


def main(argv: list[str] | None = None) -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "labels", nargs="?", type=Path, default=DATA, help="Whole_label_data.pickle or a data folder"
    )
    arguments.add_argument("--out", type=out_folder, default=RESULTS / "hypnograms", metavar="DIR")
    args = arguments.parse_args(argv)
    from sleep_interpreter.data.formats.hypnograms import report  # lazy: start-up

    say(*report(args.labels, args.out))


if __name__ == "__main__":
    sys.exit(run(main))
