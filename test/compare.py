"""Compare runs on the same test subjects: side by side, and paired tests for each pair.

Data      results folders of test/*.py (summary.json, predictions.csv)
Writes    results/compare/NAMES.csv (runs), NAMES_pairs.csv, NAMES_subjects.csv, NAMES.json, NAMES.png
Tests     over the subjects in common, two-sided: Wilcoxon signed-rank and sign-flip permutation, corrected
          for the number of pairs (Holm); the subject is the unit, so two subjects prove nothing
Published the 52-subject version: sleep only 15.58 %, awake + sleep 16.61 % (top-1, chance 6.67 %)

  python test/compare.py results/N23SIMD results/N23SISD
  python test/compare.py N23SIMD N23SIMD_precue --different-data --measure balanced
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.utils.core import command_line
from sleep_interpreter.utils.core.paths import RESULTS, shown


def main(argv=None):
    parser = command_line.parser(__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="results folder, or its name in --results")
    parser.add_argument("--measure", choices=("top1", "top3", "balanced"), default="top1")
    parser.add_argument("--results", metavar="DIR", default=str(RESULTS), help="default: results/")
    parser.add_argument("--name", help="of the files written, instead of the runs' names")
    parser.add_argument(
        "--different-data", action="store_true", help="also where the test data differ (names still match)"
    )
    args = parser.parse_args(argv)
    from sleep_interpreter.train.evaluation import comparison

    found = comparison.compare(args.runs, Path(args.results), args.measure, args.different_data, args.name)
    command_line.say(*comparison.table(found), f"written: {shown(found['path'])}.csv, .json, .png")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
