"""Test REMSISD on unseen subjects, zero-shot: nothing is fitted or chosen on them.

Data      data/SI Main Test/subject_test_*/REM* (or --data DIR)
Reads     the checkpoint trained here, otherwise the released one in data/Model checkpoint/Decoding/
Writes    results/REMSISD/: summary.json, subjects.csv, predictions.csv, confusion_matrix.csv and .png,
          accuracy.png, calibration.png; results/REMSISD.pickle
Controls  --window precue: EEG before the cue (results/REMSISD_precue/); permuted labels: always
Parts     --data-type test: only those trials that fine-tuning does not see (results/REMSISD_test/)
Parts     --data-type test: only those trials that fine-tuning does not see (results/REMSISD_test/)
Published no figure of the published version

  python test/REMSISD.py
  python test/REMSISD.py --quick          (after train/REMSISD.py --quick)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.train.commands import scripts
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, scripts.test_decoder, "REMSISD", __doc__)
