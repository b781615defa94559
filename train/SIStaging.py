"""Train SIStaging: sleep stages from 30 s of EEG, EOG and EMG, six members with class weights of their own.

Data      data/SI Staging/Train/subject*/Whole* (or --data DIR)
Writes    results/Staging checkpoint/SIStaging/ensemble.npz, log.csv, run.json, training.png
Published 6 members, 200 epochs; no accuracy of the stager alone is published
Stop it whenever you like: the same command goes on after the last finished epoch.

  python train/SIStaging.py
  python train/SIStaging.py --validation-subjects 10     (each member's epoch is chosen on them)
  python data/simulate.py --preset test && python train/SIStaging.py --quick
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.train.commands import scripts
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, scripts.train, "SIStaging", __doc__)
