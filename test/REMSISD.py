"""Test REMSISD on unseen subjects, zero-shot: nothing is fitted or chosen on them.

Data      data/SI Main Test/subject_test_*/REM* (or --data DIR)
Reads     the checkpoint trained here, otherwise the released one in data/Model checkpoint/Decoding/
Writes    results/REMSISD/: summary.json, predictions.csv, confusion_matrix.png, accuracy.png;
          results/REMSISD.pickle
Published no figure of the published version

  python test/REMSISD.py
  python test/REMSISD.py --quick          (after train/REMSISD.py --quick)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from utils import cli, runs


def main(argv=None):
    runs.test_decoder("REMSISD", runs.parser(__doc__, training=False).parse_args(argv))


if __name__ == "__main__":
    sys.exit(cli.run(main))
