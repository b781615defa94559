"""Test SIStaging on unseen subjects, against the expert and beside YASA.

Data      data/SI Staging/Test/subject*/Whole*, raw* (or --data DIR)
Reads     the checkpoint trained here, otherwise the released one in data/Model checkpoint/Staging/
Writes    results/SIStagingtest/: summary.json, predictions.csv, nights/SUBJECT.png, confusion_matrix.png,
          latency.png, reliability.png, sleep_statistics.png, gate.png; results/SIStagingtest.pickle
YASA      stages the same nights, whole and on the past alone (--set staging.yasa=false leaves it out)
A subject that cannot be staged is reported and left out; the others go on.

  python test/SIStagingtest.py
  python test/SIStagingtest.py --quick          (after train/SIStaging.py --quick)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.train.commands import scripts
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, scripts.test_stager, "SIStagingtest", "SIStaging", __doc__)
