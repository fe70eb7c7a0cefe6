"""What a server needs when rounds and sites are many: no more memory than for few. The sites are tiny_sites.py's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.tiny_sites import federate, resident

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_scenario_17_over_200_rounds_with_10_sites_memory_grows_by_less_than_a_twentieth(tmp_path):
    seen = {}

    def look(number):
        if number in {20, 200}:
            seen[number] = resident()

    records = federate(tmp_path / "one", 10, 200, after_round=look)
    assert [len(records), {item.status for item in records[-1].sites.values()}] == [201, {"accepted"}]
    assert seen[200] < 1.05 * seen[20]


def test_the_servers_memory_is_flat_in_the_number_of_sites(tmp_path):
    """Two answers wait beside the sums until a third comes, and have left memory before the next."""
    command = [sys.executable, "-m", "tests.end_to_end.tiny_sites", str(tmp_path), "5", "16"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "FEDBREAST_CACHE": str(tmp_path / "cache")}
    # glibc may keep what was freed: with a fixed threshold it returns arrays, and the peak is what the server holds.
    environment |= {"MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    few, update, many, _ = map(int, done.stdout.split())
    assert update > 20e6
    assert many < few + update / 2
