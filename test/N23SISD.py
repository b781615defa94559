"""Test N23SISD on unseen subjects, zero-shot: nothing is fitted or chosen on them.

Data      data/SI Main Test/subject_test_*/N2N3* (or --data DIR)
Reads     the checkpoint trained here, otherwise the released one in data/Model checkpoint/Decoding/
Writes    results/N23SISD/: summary.json, subjects.csv, predictions.csv, confusion_matrix.csv and .png,
          accuracy.png, calibration.png; results/N23SISD.pickle
Controls  --window precue: EEG before the cue (results/N23SISD_precue/); permuted labels: always
Parts     --data-type test: only those trials that fine-tuning does not see (results/N23SISD_test/)
Parts     --data-type test: only those trials that fine-tuning does not see (results/N23SISD_test/)
Published the 52-subject version: 15.58 % (aligned: 16.61 %)

  python test/N23SISD.py
  python test/N23SISD.py --quick          (after train/N23SISD.py --quick)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.train.commands import scripts
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, scripts.test_decoder, "N23SISD", __doc__)
