"""A process sees its wall clock jump, there and back, while it waits as long as it was told to."""

import os
import subprocess
import sys
import time

from tests.network.clocks import Clock, build

SHOWS = """
import sys, threading, time, datetime
for _ in sys.stdin:
    began = time.monotonic()
    time.sleep(0.2); threading.Event().wait(0.2)
    waited = time.monotonic() - began
    print(time.time(), datetime.datetime.now().timestamp(), waited, flush=True)
"""


def test_a_process_sees_its_clock_jump_and_waits_as_long_as_before(tmp_path):
    clock = Clock(tmp_path / "clock", build(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", SHOWS],
        env=os.environ | clock.variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for wrong in (0, 7200, -7200, 0):
            clock.put(wrong)
            process.stdin.write("\n")
            process.stdin.flush()
            first, second, waited = map(float, process.stdout.readline().split())
            assert abs(first - time.time() - wrong) < 5
            assert abs(second - time.time() - wrong) < 5
            assert 0.4 <= waited < 5
        process.stdin.close()
