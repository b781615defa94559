"""Test any decoder by its name in params/ on unseen subjects, zero-shot: EEGNet, or one of your own.

Data      data/SI Main Test/subject_test_*, as the network's settings say (or --data DIR)
Reads     the checkpoint that train/network.py wrote (or --checkpoint FILE)
Writes    results/NETWORK/: summary.json, tables and figures; results/NETWORK.pickle
Controls  --window precue: EEG before the cue (results/NETWORK_precue/); permuted labels: always

  python test/network.py EEGNet
  python test/network.py EEGNet --quick          (after train/network.py EEGNet --quick)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.train.commands import scripts
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, scripts.test_decoder, None, __doc__)
