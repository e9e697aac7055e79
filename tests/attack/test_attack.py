"""A part of each attack, chosen by a fixed seed; `python -m tests.attack` runs all of them."""

import itertools
import random

import pytest
import torch

from tests.attack import arrays, bit_flips, command_lines, kills, run_files
from tests.attack.judge import faults


@pytest.fixture(autouse=True)
def _one_thread(cpu_threads):
    cpu_threads(1)


def some(cases, count):
    return random.Random(1).sample(list(cases), count)


def test_damaged_run_files(tmp_path):
    assert faults(some(run_files.cases(tmp_path), 150)) == []


@pytest.mark.filterwarnings("ignore")
def test_arrays(tmp_path):
    assert faults(list(arrays.cases(tmp_path))) == []


@pytest.mark.filterwarnings("ignore")
def test_command_lines(tmp_path):
    assert faults(some(command_lines.cases(tmp_path), 40)) == []


def test_bit_flips_of_checkpoints(tmp_path):
    assert faults(list(itertools.islice(bit_flips.checkpoints(tmp_path), 100))) == []


@pytest.mark.filterwarnings("ignore")
def test_bit_flips_of_images(tmp_path):
    assert faults(list(itertools.islice(bit_flips.images(tmp_path), 150))) == []


def test_kills(tmp_path):
    assert torch.get_num_threads() == 1  # the killed processes are forked
    assert faults(list(itertools.islice(kills.cases(tmp_path, kills=2), 2))) == []
