"""Train N23SIMD: NREM 2/3 sleep aligned with wakefulness, on all training subjects.

Data      data/SI Main Train_tfrecords/N2N3/Whole* (or --data DIR)
Writes    results/Decoding checkpoint/N2N3_SIMD[_Retrained]/ensemble.npz, log.csv, run.json
Published zero-shot top-1 on 12 unseen subjects 24.12 % (chance 6.67 %), 5 members, 100 epochs
Stop it whenever you like: the same command goes on after the last finished epoch.

  python train/N23SIMD.py
  python train/N23SIMD.py --mode retrained --set train.epochs=50 --set model.class_loss=logits
  python data/simulate.py --preset test && python train/N23SIMD.py --quick
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.train.commands import scripts
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, scripts.train, "N23SIMD", __doc__, modes=("normal", "retrained"))
