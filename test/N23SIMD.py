"""Test N23SIMD on unseen subjects, zero-shot: nothing is fitted or chosen on them.

Data      data/SI Main Test/subject_test_*/N2N3* (or --data DIR)
Reads     the checkpoint trained here, otherwise the released one in data/Model checkpoint/Decoding/
Writes    results/N23SIMD/: summary.json, subjects.csv, predictions.csv, confusion_matrix.csv and .png,
          accuracy.png, calibration.png; results/N23SIMD.pickle
Controls  --window precue: EEG before the cue (results/N23SIMD_precue/); permuted labels: always
Parts     --data-type test: only those trials that fine-tuning does not see (results/N23SIMD_test/)
Published zero-shot top-1 on 12 unseen subjects 24.12 % (chance 6.67 %)

  python test/N23SIMD.py
  python test/N23SIMD.py --mode retrained
  python test/N23SIMD.py --quick          (after train/N23SIMD.py --quick)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.train.commands import scripts
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, scripts.test_decoder, "N23SIMD", __doc__, modes=("normal", "retrained"))
