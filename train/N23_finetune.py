"""Fine-tune the trained N23SIMD (NREM 2/3) to each test subject, and test on trials of the same subject.

Data      data/SI Main Test/subject_test_*/N2N3*
          (data_type train to fit, val to choose the epoch, test to report)
Reads     the checkpoint trained here, otherwise the released one in data/Model checkpoint/Decoding/
Writes    results/Decoding checkpoint/..._finetune/SUBJECT/: ensemble.npz, log.csv;
          results/N23_finetune/: summary.json, predictions.csv, figures; results/N23_finetune.pickle
          (of --subjects results/N23_finetune_test_3/ and so on)
Published fine-tuned top-1 on 12 subjects 30.32 % (chance 6.67 %), a figure for which the test part helped to
          choose the epoch; ours is chosen on validation trials alone, theirs is printed as published_score

  python train/N23_finetune.py            (stop it whenever you like: it goes on after its last state)
  python train/N23_finetune.py --subjects subject_test_3
  python train/N23_finetune.py --quick          (after train/N23SIMD.py --quick)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.train.commands import scripts
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, scripts.finetune, "N23_finetune", "N23SIMD", __doc__)
