"""Lasso GLM from NREM sleep to awake pictures and sounds: a decoder at every time sample, trained on all
trials of one side, tested on all of the other through 13 windows of 0.8 s, every 0.1 s of the sleep trial.

Data      N2N3, awake_image, awake_audio of data/SI Main Train/subject_*/Whole_data.pickle and
          data/SI Main Test/subject_test_*/Whole_data.pickle (or --data DIR)
Writes    results/lasso_NREM2awake/: summary.json, accuracy.csv, mean.csv, figures, subjects/;
          results/lasso_NREM2awake.pickle (docs/lasso.md)
Published no figure (chance 6.7 %)
Expect    near chance on released data

  python lasso_glm/lasso_glm_NREM2awake.py --jobs 2
  python lasso_glm/lasso_glm_NREM2awake.py --generalise
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.lasso_glm.engine import commands
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, commands.run_plan, "NREM2awake", __doc__)
