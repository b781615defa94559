"""Train N23SISD: NREM 2/3 sleep alone, without wakefulness, on all training subjects.

Data      data/SI Main Train_tfrecords/N2N3/sleep* (or --data DIR)
Writes    results/Decoding checkpoint/N2N3_SISD/ensemble.npz, log.csv, run.json
Published the 52-subject version: 15.58 % (aligned: 16.61 %)
Stop it whenever you like: the same command goes on after the last finished epoch.

  python train/N23SISD.py
  python data/simulate.py --preset test && python train/N23SISD.py --quick
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.train.commands import scripts
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, scripts.train, "N23SISD", __doc__)
