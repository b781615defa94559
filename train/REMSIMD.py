"""Train REMSIMD: REM sleep aligned with wakefulness, on all training subjects.

Data      data/SI Main Train_tfrecords/REM/Whole* (or --data DIR)
Writes    results/Decoding checkpoint/REM_SIMD/ensemble.npz, log.csv, run.json
Published zero-shot top-1 on 12 unseen subjects 21.39 % (chance 6.67 %)
Stop it whenever you like: the same command goes on after the last finished epoch.

  python train/REMSIMD.py
  python data/simulate.py --preset test && python train/REMSIMD.py --quick
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.train.commands import scripts
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, scripts.train, "REMSIMD", __doc__)
