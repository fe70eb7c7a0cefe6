"""What must hold of a run after each fault, whatever it was: committed rounds stay, no file is torn, logs verify."""

import hashlib
import json
import re
from pathlib import Path

from safetensors.torch import load_file

from server.run_folder.journal import RunFolder
from shared.reproducibility import state_hash
from shared.runtime.audit_log import verify
from tests.network.consortium import SERVER, TASK, alive, fields

DRAFT = re.compile(r"\..+\.\d+")
GROWTH = 1.05
WARM = 20
"""Rounds after which a process has loaded what it needs."""
LAST = 3
"""Samples at the end of which the smallest counts: a server that holds messages for a moment has not grown."""


class Invariants:
    """Remembers the committed rounds; `check` raises where one has changed or anything else is wrong."""

    def __init__(self, found):
        self.found = found
        self.models, self.records, self.last, self.count = {}, {}, -1, 0

    def check(self):
        """Check all; returns the number of the last committed round."""
        folder, before, last = self.found.folder, self.last, self.found.last
        journal = {number: folder / "journal" / TASK / f"round-{number:03d}.json" for number in range(last + 1)}
        names = {path.name for path in (folder / "journal" / TASK).glob("round-*.json")}
        assert {path.name for path in journal.values()} <= names, "a round is missing"
        assert last >= before, f"round {before} was committed and is gone"
        for number, path in journal.items():
            model = folder / "models" / TASK / f"{path.stem}.safetensors"
            known = self.models.setdefault(number, seal(model))
            assert seal(model) == known, f"the model of round {number} was written again"
            if number < last:  # the last one's record is entered once more when its model was evaluated
                known = self.records.setdefault(number, seal(path))
                assert seal(path) == known, f"the record of round {number} was written again"
            if number > before:
                record = json.loads(path.read_text())
                assert record["round"] == number
                assert record["model_hash"] == state_hash(load_file(model)), f"round {number} holds another model"
        self.whole(folder)
        for name in self.found.processes:
            verdict = verify(self.found.kit(name) / "state" / "audit.jsonl")
            assert verdict.broken_at is None, f"{name}: {verdict.why}"
        self.no_crash()
        self.last, self.count = last, self.count + 1
        return last

    def whole(self, folder):
        """No file of the run is torn, and no draft is older than the last commit."""
        commit = max(path.stat().st_mtime_ns for path in (folder / "journal" / TASK).glob("round-*.json"))
        for path in folder.rglob("*"):
            if DRAFT.fullmatch(path.name):
                assert age(path) > commit, f"the draft {path.name} was left behind"
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.name == "log.jsonl":
                for line in path.read_text().splitlines()[:-1]:
                    json.loads(line)

    def no_crash(self):
        """Nobody on the server's side ended with a trace."""
        for path in (self.found.root / f"{self.found.name}.out", self.found.rehearsal.folder / f"{SERVER}.log"):
            assert "Traceback" not in path.read_text(errors="replace"), f"{path.name} has a trace"

    def end(self):
        """At the end nothing is half done."""
        self.check()
        assert not [path for path in self.found.folder.rglob(".*") if DRAFT.fullmatch(path.name)]
        assert [item.round for item in RunFolder(self.found.folder).records(TASK)] == list(range(self.last + 1))


def seal(path):
    """Time of writing and content of a file."""
    return path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()


def age(path):
    """When a draft was written; one that is gone meanwhile is no draft any more."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return float("inf")


class Memory:
    """Resident memory of every process of the consortium over the rounds, but of workers, which live for a message."""

    def __init__(self, found):
        self.found = found
        self.seen = {}

    def sample(self, number):
        """Note what each process has now."""
        for name, running in self.found.processes.items():
            workers = set(self.found.workers(name)) if name != SERVER else set()
            for pid, what in {**self.found.members(name), running.pid: "fedbreast serve"}.items():
                folder = Path("/proc") / str(pid)
                if pid in workers or not alive(folder):
                    continue
                started = fields(folder)[19]
                self.seen.setdefault((name, role(what), pid, started), []).append((number, resident(folder)))

    def grown(self):
        """Of every process that lived long: member, role, rounds it lived since it was warm, MB then and at its end."""
        rows = []
        for (name, what, *_), samples in self.seen.items():
            warm = [item for item in samples if item[0] >= samples[0][0] + WARM]
            if len(warm) > 1 and warm[-1][0] - warm[0][0] >= WARM:
                late = min(size for _, size in warm[-LAST:])
                rows.append((name, what, warm[-1][0] - warm[0][0], warm[0][1], late))
        return rows


def resident(folder):
    """Resident memory of a process, MB."""
    return int((folder / "statm").read_text().split()[1]) * 4096 / 1e6


def role(command):
    """What a process is, in a word or two."""
    roles = ("warm_process.py", "client.node.supernode", "app_starter", "flwr-serverapp", "flower-superlink", "nginx")
    known = {"superlink_quota": "flower-superlink", "server.deployment.app_starter": "app_starter"}
    found = next((word for word in (*roles, *known, "fedbreast serve") if word in command), "other")
    return known.get(found, found)
