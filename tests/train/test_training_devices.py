"""train/*.py --devices ends where one device ends."""

import subprocess
import sys

import numpy as np
import pytest
import training_runs as runs
from training_runs import SMALL, arrays

RUN = "Decoding checkpoint/N2N3_SISD"
TWO_DEVICES = """
import runpy, sys
sys.path.insert(0, {root!r})
from sleep_interpreter.utils.core import command_line, tensorflow_import
tf = tensorflow_import.import_tensorflow()
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.exit(command_line.run(runpy.run_path({script!r})["main"], {arguments!r}))
"""


@pytest.mark.slow
def test_a_training_on_two_devices_ends_where_one_device_ends(cohort, tmp_path):
    # Without dropout: every device draws masks of its own.
    quiet = ["--set", "model.class_dropout=0", "--set", "model.sleep_encoder.ffn_dropout=0"]
    options = [*SMALL, *quiet, "--set", "members=1", "--set", "train.epochs=1", "--data", str(cohort)]
    assert runs.call("train/N23SISD.py", *options, "--results", tmp_path / "one") == 0
    arguments = [*options, "--results", str(tmp_path / "two"), "--devices", "CPU:0,CPU:1"]
    code = TWO_DEVICES.format(root=str(runs.ROOT), script=str(runs.ROOT / "train" / "N23SISD.py"), arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (arrays(tmp_path / name / RUN / "ensemble.npz") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=0.02, atol=2e-3, err_msg=name)
