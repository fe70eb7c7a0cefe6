"""A long run of many real sites under faults that a plan names."""

import time
from collections import Counter

from shared.runtime.children import listens
from tests.network.consortium import wait_for
from tests.network.soak_checks import Invariants, Memory
from tests.network.soak_faults import MAKE

STUCK_S = 600
"""Without a new round for so long a run is stuck."""
ENDED = (0, 3)


class Soak:
    """The run of a consortium; `disks` are folders of members' own disks, `clocks` their clocks, by name."""

    def __init__(self, found, disks, clocks):
        self.found, self.disks, self.clocks = found, disks, clocks
        self.running = found.run()
        self.invariants, self.memory = Invariants(found), Memory(found)
        self.done, self.notes, self.again, self.resumes = [], [], Counter(), 0
        self.began = time.monotonic()

    @property
    def seconds(self):
        """How long it has lasted."""
        return time.monotonic() - self.began

    @property
    def over(self):
        """Whether the run came to its end."""
        return self.running.poll() in ENDED

    def reach(self, number):
        """Wait until a round is committed; who ended is started again, and a run that failed is resumed."""
        since, last = time.monotonic(), self.found.last
        while not self.over and self.found.last < number:
            self.keep()
            if self.found.last > last:
                since, last = time.monotonic(), self.found.last
            assert time.monotonic() - since < STUCK_S, f"no round since {last}: {self.found.output[-2000:]}"
            time.sleep(0.5)

    def keep(self):
        """Start again who ended, as init does, and resume a run that ended with an error."""
        for name, running in list(self.found.processes.items()):
            if running.poll() is not None:
                self.again[name] += 1
                time.sleep(1)
                self.found.launch(name)
        code = self.running.poll()
        if code is not None and code not in ENDED and listens(self.found.superlink_port):
            why = self.found.output.strip().rpartition("\n")[2]
            self.notes.append(f"round {self.found.last}: the run ended with {code} and was resumed ({why[:200]})")
            self.resumes += 1
            self.running = self.found.run(resume=(self.found.folder / "config.toml").is_file())

    def make(self, fault):
        """Make one fault, wait for the next round after it, and check all that must hold."""
        self.reach(fault.round)
        if self.over:
            return
        started = time.monotonic()
        MAKE[fault.kind](self, fault)
        self.keep()
        self.reach(self.found.last + 1)
        last = self.invariants.check()
        self.memory.sample(last)
        self.done.append((fault, last, time.monotonic() - started))
        print(f"{self.seconds:.0f} s, round {last}: {fault}", flush=True)  # noqa: T201 - hours may pass

    def finish(self, rounds):
        """Wait for the end, looking on."""
        for number in range(self.found.last, rounds, 10):
            self.reach(number)
            self.memory.sample(self.found.last)
        assert wait_for(lambda: self.keep() or self.over, STUCK_S), self.found.output[-2000:]
        self.invariants.end()
