"""Test N23SIMD by phase of the slow oscillation, zero-shot on unseen subjects.

Data      data/SI Main Test/subject_test_*/SO* (or --data DIR): 8 groups of trials, from Pre-SO to Post-SO
Reads     the checkpoint trained here, otherwise the released one in data/Model checkpoint/Decoding/
Writes    results/N23SIMD_SO/: summary.json, groups.csv, predictions.csv, groups.png;
          results/N23SIMD_SO.pickle
Tests     each group against chance; between groups, and with and without a spindle after the cue (where the
          data tell): sign flips within subjects
Published best group 40.02 % top-1 (chance 6.67 %)

  python test/N23SIMD_SO.py
  python test/N23SIMD_SO.py --quick          (after train/N23SIMD.py --quick)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.train.commands import scripts
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, scripts.test_so_groups, "N23SIMD", __doc__, mode="normal")
