"""Lasso GLM within REM sleep: a decoder at every time sample, five folds a
subject: one to test, the next to choose the time with, three to train.

Data      REM of data/SI Main Train/subject_*/Whole_data.pickle and
          data/SI Main Test/subject_test_*/Whole_data.pickle (or --data DIR)
Writes    results/lasso_REM2REM/: summary.json, accuracy.csv, validation.csv, mean.csv, figures, subjects/;
          results/lasso_REM2REM.pickle (docs/lasso.md)
Published no figure (chance 6.7 %)
Expect    few trials a subject, some without any: reported as missing

  python lasso_glm/lasso_glm_REM2REM.py --jobs 2
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.lasso_glm.engine import commands
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, commands.run_plan, "REM2REM", __doc__)
