"""Reactivation without cues: a trained decoder slid over all N2, N3 and REM sleep, as in nap experiments.

Data      Prepared/subject_*/<session>/ of data/prepare.py (outputs.continuous = test or all)
Reads     the checkpoint trained here, otherwise the released one; REM needs --rem-network
Writes    results/reactivation/: <subject>/<session>.npz (probabilities over time; the matrix for TDLM tools),
          _events.tsv, .png; rates.tsv and .png, behaviour.tsv and .png, summary.json
Control   the same sleep with shuffled phases, or --control SESSION: a night before learning. It sets the
          threshold: at most 0.2 control events a minute (params/reactivation.yaml)
Published naps were decoded so; the paper gives no numbers that could be compared

  python test/reactivation.py --data data/my_study --behaviour scores.tsv
  python test/reactivation.py --data data/my_study --rem-network REMSIMD --control nap_before
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.train.commands import scripts
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, scripts.reactivation, __doc__)
