"""Memory that a piece of code takes, measured in a process of its own."""

import resource
import subprocess
import sys
import textwrap
from pathlib import Path

_PROGRAM = """
import sys

def peak():  # not getrusage's: that begins with the peak of the process that started this one
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

{setup}
before = peak()
{code}
print(peak() - before)
"""


def peak_mb(setup, code, *arguments, limit_gb=12):
    """MB that `code` takes at most beyond what `setup` took; `arguments` are its `sys.argv[1:]`.

    It may not take more than `limit_gb` in all: what has no bound must not fill the machine that tests it.
    """
    program = _PROGRAM.format(setup=textwrap.dedent(setup), code=textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[1],
        # The child is Python alone until then: no thread of ours holds a lock in it.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit_gb << 30, limit_gb << 30)),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.split()[-1]) / 1024
