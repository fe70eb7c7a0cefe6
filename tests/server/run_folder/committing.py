"""A process that commits rounds until it is killed, and the one that kills it: see test_killed_while_writing.py."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

from server.run_folder.journal import RunFolder
from server.run_folder.participation import Participation
from server.run_folder.round_record import RoundRecord, SiteEntry
from shared.reproducibility import state_hash
from shared.runtime.audit_log import AuditLog

TASK = "lesion-segmentation"
VALUES = 100_000


def state_of(number):
    return {"w": torch.full((VALUES,), float(number))}


def strategy_state_of(number):
    return {"m": np.full(VALUES, number, np.float32)}


def flow_of(number):
    return {f"site-{index}": {"included": {"train": number}} for index in range(500)}


def commit_for_ever(path, told):
    """Commit one round after the other, each told once it is on the disk."""
    folder, config = RunFolder.resume(path)
    participation, log = Participation(path, config.data.sites), AuditLog(path / "audit.jsonl")
    records = folder.records(TASK)
    while True:
        number = len(records)
        if records:  # its sites evaluate a round's model while they train the next
            records[-1].evaluated = {site: SiteEntry("accepted", "", number - 1) for site in config.data.sites}
            folder.enter(records[-1])
        folder.write_flow(flow_of(number))
        sites = {site: SiteEntry("accepted", "", number) for site in config.data.sites}
        record = RoundRecord(TASK, number, state_hash(state_of(number)), 1.0, sites)
        folder.commit(record, state_of(number), strategy_state_of(number))
        records.append(record)
        participation.rounds(TASK, records)
        log.record("round-committed", round=number)
        os.write(told, b"%d\n" % number)


def main():
    """For each number read, fork a process that commits, kill it, and say what it had told.

    The number says when, past the second commit, in times of what that took: kills must not all come too early or too
    late on a slower machine.
    """
    torch.set_num_threads(1)
    for line in sys.stdin:
        reading, telling = os.pipe()
        child = os.fork()
        if child == 0:
            commit_for_ever(Path(sys.argv[1]), telling)
        os.close(telling)
        with os.fdopen(reading) as stream:
            first, started = stream.readline(), time.perf_counter()
            second = stream.readline()
            time.sleep(float(line) * (time.perf_counter() - started))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            sys.stdout.write((first + second + stream.read()).split()[-1] + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
