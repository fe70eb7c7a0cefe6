"""A run's folder after its server was killed in the middle of a write."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from server.run_folder.journal import RunFolder
from shared.config.run_config import parse_config
from shared.runtime.audit_log import AuditLog, verify
from tests.server.run_folder.committing import TASK, flow_of, state_of, strategy_state_of

ROOT = Path(__file__).resolve().parents[3]
CONFIG = parse_config({"name": "tiny", "data": {"root": "d", "sites": ["a", "b"]}}, "t")
KILLS, TORN, AT_MOST = 30, 6, 300  # kills; those that must have met a write; how many may be tried for that


def test_scenario_14_a_kill_in_a_checkpoint_leaves_the_old_or_the_new_round_and_never_a_torn_file(tmp_path):
    path = tmp_path / "runs" / "one"
    RunFolder.create(path, CONFIG).release()
    delays = random.Random(14)
    kills, torn, reached, told = 0, 0, -1, -1
    command = [sys.executable, "-m", "tests.server.run_folder.committing", str(path)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as killer:
        while kills < KILLS or (torn < TORN and kills < AT_MOST):
            kills += 1
            killer.stdin.write(f"{delays.uniform(0.0, 1.5)}\n")
            killer.stdin.flush()
            told = max(told, int(killer.stdout.readline()))
            torn += bool(drafts(path))
            reached = check(path, reached, told)
        killer.stdin.close()
    assert reached >= 2 * kills - 1
    assert torn >= TORN


def drafts(path):
    return [item for item in path.rglob(".*") if item.is_file() and item.name != ".lock" and item.suffix != ".lock"]


def check(path, before, told):
    """Open the folder as a resumed server does; return the last round that is committed."""
    folder, config = RunFolder.resume(path)
    assert config == CONFIG
    assert not drafts(path)
    records = folder.records(TASK)
    last = len(records) - 1
    assert [item.round for item in records] == list(range(last + 1))
    assert last >= max(before, told)  # what was told is kept
    for record in records[before + 1 :]:
        assert torch.equal(folder.model(record)["w"], state_of(record.round)["w"])
        assert np.array_equal(folder.strategy_state(record)["m"], strategy_state_of(record.round)["m"])
        assert record.sites["b"].cases == record.round
        # All sites' evaluation or none of it; only of the last round may it be missing.
        assert [item.cases for item in record.evaluated.values()] in [[record.round] * 2, []]
        assert record.evaluated or record.round == last
    assert folder.flow() in [flow_of(last), flow_of(last + 1)] or last < 0
    if last > 0 and (path / "participation.csv").is_file():
        table = pd.read_csv(path / "participation.csv")
        rounds = [number for number in range(1, last + 1) for _ in config.data.sites]
        trained = list(table["round"][table["role"] == "train"])
        assert trained in [rounds, rounds[:-2]]
        assert list(table["round"][table["role"] == "validation"]) in [trained, trained[:-2]]
        assert list(table["cases"]) == list(table["round"])
    log = AuditLog(path / "audit.jsonl")
    log.record("resumed", round=last)
    assert verify(log.path).broken_at is None
    folder.release()
    return last
