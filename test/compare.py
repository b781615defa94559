"""Compare runs on the same test subjects, or conditions within a run: side by side, and tests between them.

Data      results folders of test/*.py (summary.json, predictions.csv)
Writes    results/compare/NAMES.csv (runs), NAMES_pairs.csv, NAMES_subjects.csv, NAMES.json, NAMES.png
Tests     over the subjects in common, two-sided: Wilcoxon signed-rank and sign-flip permutation, corrected
          for the number of pairs (Holm); the subject is the unit, so two subjects prove nothing;
          --by stage, phase, spindle, repetition or early_late: conditions of each run's own trials, by sign
          flips within subjects, where its predictions.csv tells them
Published the 52-subject version: sleep only 15.58 %, awake + sleep 16.61 % (top-1, chance 6.67 %)

  python test/compare.py results/N23SIMD results/N23SISD
  python test/compare.py N23SIMD N23SIMD_precue --different-data --measure balanced
  python test/compare.py N23SIMD_SO --by phase
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.train.commands import scripts
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, scripts.compare, __doc__)
