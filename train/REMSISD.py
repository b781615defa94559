"""Train REMSISD: REM sleep alone, without wakefulness, on all training subjects.

Data      data/SI Main Train_pickle/REM/sleep* (or --data DIR)
Writes    results/Decoding checkpoint/REM_SISD/ensemble.npz, log.csv, run.json
Published no figure of the published version
Stop it whenever you like: the same command goes on after the last finished epoch.

  python train/REMSISD.py
  python data/simulate.py --preset test && python train/REMSISD.py --quick
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.train.commands import scripts
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, scripts.train, "REMSISD", __doc__)
