"""Train any decoder by its name in params/: EEGNet, or one of your own (docs/contributing.md).

Data      data/SI Main Train_tfrecords/, as the network's settings say (or --data DIR)
Writes    results/Decoding checkpoint/NETWORK/ensemble.npz, log.csv, run.json
Stop it whenever you like: the same command goes on after the last finished epoch.

  python train/network.py EEGNet
  python data/simulate.py --preset test && python train/network.py EEGNet --quick
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.train.commands import scripts
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, scripts.train, None, __doc__)
