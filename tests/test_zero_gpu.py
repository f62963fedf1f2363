"""The app's functions where a GPU is lent for each call: see `lent_gpu.py` for what is real there."""

import subprocess
import sys
from pathlib import Path

from foresight import zero_gpu

SCRIPT = Path(__file__).with_name("lent_gpu.py")


def ran(*arguments):
    done = subprocess.run([sys.executable, "-W", "ignore", SCRIPT, *map(str, arguments)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]


def test_each_function_that_computes_gives_the_same_from_a_fork(house, tmp_path):
    ran(house, tmp_path)


def test_models_are_loaded_where_a_gpu_seems_to_be(tmp_path):
    ran("load", tmp_path)


def test_elsewhere_functions_are_what_they_are():
    assert not zero_gpu.ACTIVE and zero_gpu.computes(1)(ran) is ran and "spaces" not in vars(zero_gpu)
