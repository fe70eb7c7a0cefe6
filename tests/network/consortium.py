"""A consortium of toy hospitals, real in everything: processes, certificates, nginx; a proxy before each site."""

import json
import os
import signal
import subprocess
import time
import tomllib
from collections import Counter
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import tomli_w

from client.node.approved_configurations import approve_configuration
from client.node.site_kit import SiteKit
from server.deployment.provisioning.members import provision
from server.deployment.rehearsal import Rehearsal, fedbreast, run_member
from server.run_folder.journal import RunFolder
from shared.config.run_config import load_config
from shared.runtime.audit_log import verify
from shared.runtime.children import free_ports
from tests.hospitals import join
from tests.network.proxy import Faults, Proxy

TASK = "lesion-segmentation"
SITES = ("centre-a", "centre-b")
EXTERNAL = "centre-d"
LONGEST_S = 300
PAGE = os.sysconf("SC_PAGE_SIZE")
SERVER = "server"
THERE, AWAY = {"connected", "server-reached"}, {"connection-ended", "server-unreachable", "serving-started"}


class Consortium:
    """Its processes by name ("server", or a site's), each of which may be killed and started again.

    The `sites` train. The external centre's node runs where the configuration names that centre.

    One run at a time is the current one: its configuration lies in `root`, its folder below `root / "runs"`.
    `environment` has more variables of a member's processes, by name.
    """

    def __init__(self, root, data, app, sites=SITES):
        self.root, self.app, self.sites, self.name = root, app, sites, ""
        self.processes = {}
        self.wanted = (SERVER, *sites)
        self.environment = {}
        self._stack, self._runs = ExitStack(), 0
        front, status, self.superlink_port = free_ports(3)
        server = {"address": "127.0.0.1", "port": front, "status_port": status, "superlink_port": self.superlink_port}
        wanted = {"name": "toy", "server": server, "sites": [{"name": name} for name in (*sites, EXTERNAL)]}
        folder = root / "consortium"
        folder.mkdir(exist_ok=True)
        (folder / "consortium.toml").write_text(tomli_w.dumps(wanted))
        self.rehearsal = Rehearsal(folder, (*sites, EXTERNAL), data)
        provision(folder / "consortium.toml", self.rehearsal.coordinator, datetime.now(UTC))
        self.proxies = {}
        for number, name in enumerate(self.rehearsal.sites):
            self.proxies[name] = self._stack.enter_context(Proxy(front, seed=number))
            self.join(name)
            path = self.kit(name) / "node.toml"
            node = tomllib.loads(path.read_text())
            node["server"]["port"] = self.proxies[name].port
            node["site"]["data"] = str(data / name)
            path.write_text(tomli_w.dumps(node))
            SiteKit(self.kit(name)).approve(app, "toy")

    def join(self, name):
        """A hospital's first or new keys, admitted."""
        join(self.rehearsal.coordinator, name, folder=self.kit(name))

    def ready(self, config):
        """Make everything whole again, whatever a test did to it, and take another configuration."""
        for line in self.proxies.values():
            line.faults = Faults()
            line.seen.clear()
        self.wanted = (SERVER, *self.sites, *([EXTERNAL] if "external" in config["data"] else []))
        if set(self.processes) != set(self.wanted) or not wait_for(self.connected, 90, 0.5):
            self.stop()
            self.start()
        self._runs += 1
        self.name = f"run-{self._runs}"
        (self.root / f"{self.name}.toml").write_text(tomli_w.dumps(config))
        for name in self.rehearsal.sites:
            approve_configuration(SiteKit(self.kit(name)), load_config(self.root / f"{self.name}.toml"))

    def connected(self):
        """Whether the server runs, and the sites by what they said last."""
        if any(running.poll() is not None for running in self.processes.values()):
            return False
        sites = [name for name in self.processes if name != SERVER]
        last = {site: [line["event"] for line in self.audit(site) if line["event"] in THERE | AWAY] for site in sites}
        return all(said and said[-1] in THERE for said in last.values())

    def start(self, *names):
        """Start processes and wait until they serve."""
        for name in names or self.wanted:
            word = "superlink-ready" if name == SERVER else "connected"
            known = self.said(name, word)
            self.launch(name)
            if name == SERVER or names:
                wait_for(lambda: self.said(name, word) > known or self.processes[name].poll() is not None)  # noqa: B023
                assert self.said(name, word) > known, (self.rehearsal.folder / f"{name}.log").read_text()
        assert wait_for(self.connected, LONGEST_S * max(1, len(self.sites) // 2), 0.5)

    def launch(self, name):
        """Start a member and do not wait for it."""
        with mock.patch.dict(os.environ, self.environment.get(name, {})):
            self.processes[name] = self._stack.enter_context(run_member(self.rehearsal, name))

    def stop(self):
        for name, running in self.processes.items():
            for pid in self.members(name):  # what a test stopped must be able to end
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            end(running, signal.SIGTERM)
        self.processes = {}

    def close(self):
        self.stop()
        self._stack.close()
        for name in (SERVER, *self.rehearsal.sites):
            if not self.audit(name):
                continue  # it was never started
            assert verify(self.kit(name) / "state" / "audit.jsonl").broken_at is None

    def kit(self, name):
        return self.rehearsal.server if name == SERVER else self.rehearsal.site(name)

    def audit(self, name):
        path = self.kit(name) / "state" / "audit.jsonl"
        if not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]

    def said(self, name, event, **facts):
        """How often a member's audit log tells of an event, with these facts."""
        return sum({"event": event, **facts}.items() <= line.items() for line in self.audit(name))

    def members(self, name, words=""):
        """Processes of a member whose command line holds the words, by number."""
        home = f"FLWR_HOME={self.kit(name) / 'state'}/".encode()
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                environment = (folder / "environ").read_bytes().split(b"\0")
                command = (folder / "cmdline").read_text(errors="replace").replace("\0", " ")
                if any(item.startswith(home) for item in environment) and words in command and alive(folder):
                    found[int(folder.name)] = command
        return found

    def workers(self, site):
        """Processes at a site that answer a message now: forks of the warm process, or one started without it."""
        warm = self.members(site, "warm_process.py")
        cold = [pid for pid, command in warm.items() if "--token-file" in command]
        return [pid for pid in warm if fields(Path("/proc") / str(pid))[1] in map(str, warm)] + cold

    def training(self, site):
        """The site's workers while the first round trains."""
        return self.workers(site) if self.in_phase("round 1: training") else []

    def kill(self, name, words=None):
        """SIGKILL: a member itself, or those of its processes whose command line holds the words."""
        numbers = [self.processes[name].pid] if words is None else list(self.members(name, words))
        assert numbers, f"{name} has no process {words}"
        signal_all(numbers, signal.SIGKILL)
        if words is None:
            self.processes[name].wait()

    def unplug(self, name):
        """SIGKILL a member with all that belongs to it, as a loss of power does: nobody says goodbye."""
        signal_all([self.processes[name].pid, *self.members(name)], signal.SIGKILL)
        self.processes[name].wait()
        assert wait_for(lambda: not self.members(name), 10)

    def resident(self, *names):
        """Resident memory of members' processes, MB, by the member and the end of the command line's first words."""
        found = Counter()
        for name in names:
            for pid, command in self.members(name).items():
                with suppress(OSError):
                    pages = int((Path("/proc") / str(pid) / "statm").read_text().split()[1])
                    found[f"{name}: {shortened(command)}"] += pages * PAGE / 1e6
        return found

    def run(self, *, resume=False):
        """Start `fedbreast run`; its output goes to a file."""
        what = ["--resume", self.name] if resume else [f"{self.name}.toml", "--name", self.name]
        with (self.root / f"{self.name}.out").open("ab") as stream:
            command = fedbreast("run", *what, "--server", str(self.rehearsal.server))
            found = subprocess.Popen(command, cwd=self.root, stdout=stream, stderr=stream)
        self._stack.callback(end, found, signal.SIGINT)
        return found

    @property
    def output(self):
        return (self.root / f"{self.name}.out").read_text()

    @property
    def folder(self):
        return self.root / "runs" / self.name

    @property
    def records(self):
        # `RunFolder` would make a folder that is not there.
        return RunFolder(self.folder).records(TASK) if self.folder.is_dir() else []

    @property
    def hashes(self):
        return [item.model_hash for item in self.records]

    def statuses(self, site):
        """A site's part in each round."""
        return [item.sites[site].status for item in self.records[1:]]

    @property
    def missed(self):
        """The (site, round) pairs of the ledger whose training is not in the model."""
        return {
            (site, item.round)
            for item in self.records[1:]
            for site, entry in item.sites.items()
            if entry.status != "accepted"
        }

    def in_phase(self, *words):
        """Whether the run's progress names all of these."""
        with suppress(OSError, ValueError):
            found = json.loads((self.folder / "progress.json").read_text())
            return all(word in f"{found['phase']} {found['text']}" for word in words)
        return False

    def committed(self):
        """The committed rounds as they lie there now: names, and when their models were written."""
        found = self._journal()
        models = self.folder / "models" / TASK
        return {path.stem: (models / f"{path.stem}.safetensors").stat().st_mtime_ns for path in found}

    @property
    def last(self):
        """Number of the last committed round; -1 before the first."""
        return len(self._journal()) - 1

    def _journal(self):
        return sorted((self.folder / "journal" / TASK).glob("round-*.json"))


def wait_for(condition, seconds=LONGEST_S, pause=0.02):
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(pause)
    return found


def signal_all(numbers, number):
    for pid in numbers:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def end(running, number):
    if running.poll() is None:
        running.send_signal(number)
        try:
            running.wait(60)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def shortened(command):
    """What a process is, in two words: its program, and what that was told to run."""
    words = [Path(word).name for word in command.split() if not word.startswith("-")]
    return " ".join(words[:2])


def fields(folder):
    """State, parent and more of a process; its name in brackets may hold anything."""
    with suppress(OSError):
        return (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return ["X", "0"]


def alive(folder):
    return fields(folder)[0] not in {"Z", "X"}
