"""A lock between real processes: held once, waited for, and free when its holder is killed."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.errors import RunError
from shared.runtime.locks import hold_lock

ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import pathlib, sys, time
from shared.runtime.locks import hold_lock
with hold_lock(pathlib.Path(sys.argv[1]), "taken"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(path, seconds):
    command = [sys.executable, "-c", HOLDER, str(path), str(seconds)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


def test_another_process_is_refused_until_the_holder_is_killed(tmp_path):
    with holder(tmp_path / "lock", 60) as other:
        with (
            pytest.raises(RunError, match=r"^somebody else has it$"),
            hold_lock(tmp_path / "lock", "somebody else has it"),
        ):
            pytest.fail("two processes hold one lock")
        other.kill()
    with hold_lock(tmp_path / "lock", "never"):
        pass


def test_a_lock_is_waited_for_and_given_back_after_an_error(tmp_path):
    with holder(tmp_path / "lock", 0.5), hold_lock(tmp_path / "lock", "never", patience_s=30):
        pass
    with pytest.raises(ValueError, match="inside"), hold_lock(tmp_path / "lock", "never"):
        raise ValueError("inside")
    began = time.monotonic()
    with hold_lock(tmp_path / "lock", "never", patience_s=30):
        assert time.monotonic() - began < 5
