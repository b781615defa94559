"""Check a data folder before training on it: what is there, what is missing, what is wrong.

Reads every file of the published layout (docs/data_format.md) from end to end, with all checksums, prints
what there is for each subject and class, and names every problem by file, record and field.

  python data/check.py data                  everything, at the speed of the disk
  python data/check.py data --fast           headers and labels of TFRecords only
  python data/check.py data --csv counts.csv

Exit code: 0 no problem, 1 problems found, 2 not a data folder. Warnings do not change it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.utils.core.command_line import out_file, parser, run, say
from sleep_interpreter.utils.core.paths import DATA


def main(argv: list[str] | None = None) -> int:
    arguments = parser(__doc__)
    arguments.add_argument("folder", type=Path, nargs="?", default=DATA, metavar="DIR", help="default: data/")
    arguments.add_argument("--fast", action="store_true", help="read headers and counts only")
    arguments.add_argument("--csv", type=out_file, metavar="FILE", help="write the counts as a table")
    args = arguments.parse_args(argv)
    from sleep_interpreter.data.inventory.survey import survey_folder  # lazy: start-up
    from sleep_interpreter.data.inventory.text import summary_lines  # lazy: start-up

    found = survey_folder(args.folder, args.fast)
    say(*summary_lines(found))
    if args.csv:
        found.write_csv(args.csv)
        say(f"written: {args.csv}")
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(run(main))
