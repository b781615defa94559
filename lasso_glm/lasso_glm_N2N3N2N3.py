"""Lasso GLM within NREM sleep: a decoder at every time sample, five folds a
subject: one to test, the next to choose the time with, three to train.

Data      N2N3 of data/SI Main Train/subject_*/Whole_data.pickle and
          data/SI Main Test/subject_test_*/Whole_data.pickle (or --data DIR)
Writes    results/lasso_N2N3N2N3/: summary.json, accuracy.csv, validation.csv, mean.csv, figures, subjects/;
          results/lasso_N2N32N2N3.pickle (docs/lasso.md)
Published no figure for all subjects; one subject in an earlier version: 12.3 % (chance 6.7 %)
Expect    little above chance

  python lasso_glm/lasso_glm_N2N3N2N3.py --jobs 2
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.lasso_glm.engine import commands
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, commands.run_plan, "N2N3N2N3", __doc__)
