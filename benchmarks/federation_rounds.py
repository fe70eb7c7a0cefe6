"""Seconds a round beyond the sites' own work: a real consortium on loopback, two sites, TLS, authentication, nginx.

The peer is Flower's own round on the same machine in the same run: its SuperNodes, its FedAvg, one flat array, the same
TLS and node authentication, no nginx, no validation. In ours the sites judge a round's model in the same exchange that
has them train it further; only the last one is judged in an exchange of its own, told apart below.

    python benchmarks/federation_rounds.py            # 30 MB
    python benchmarks/federation_rounds.py 300        # 300 MB; takes several minutes
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import tomli_w

from server.commands.run import run_folder
from server.deployment.flower_cli import Link, flwr, submit
from server.deployment.flower_cli import call as run_command
from server.deployment.rehearsal import Rehearsal, call, prepare, run_consortium
from server.deployment.server_kit import ServerKit
from server.deployment.superlink import CONNECTION, LOG, register, superlink
from server.run_folder.journal import RunFolder
from shared.config.run_config import load_config
from shared.phantom.generate import PhantomSettings, generate_federation
from shared.runtime.children import free_ports
from shared.runtime.flower_home import launch_environment

CHANNELS = {30: (32, 492), 100: (64, 900), 300: (150, 1540)}
ROUNDS = 3
SITES = ("centre-a", "centre-b")


def configuration(folder: Path, megabytes: int) -> Path:
    """A run whose sites do next to nothing, with a model of the wanted size."""
    raw = {
        "name": f"rounds-{megabytes}mb",
        "data": {"root": str(folder / "data"), "sites": list(SITES)},
        "preprocessing": {"max_voxels": 4096, "n4": False},
        "model": {"channels": list(CHANNELS[megabytes]), "deep_supervision": 1},
        "training": {"steps_per_round": 1},
        "federation": {"rounds": ROUNDS, "min_sites": len(SITES)},
    }
    path = folder / "rounds.toml"
    path.write_text(tomli_w.dumps(raw), encoding="utf-8")
    return path


PEER = """
import time
import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()

@client.train()
def train(message: Message, context: Context):
    # Bytes as varied as weights: Flower sends equal pieces once.
    arrays = ArrayRecord({"flat": Array(message.content["arrays"]["flat"].numpy() + np.float32(context.node_id % 97))})
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})})
    return Message(content=content, reply_to=message)

server = ServerApp()

@server.main()
def main(grid: Grid, context: Context):
    clock = []

    def tick(number, arrays):
        clock.append(time.time())

    strategy = FedAvg(min_train_nodes=2, min_available_nodes=2, fraction_evaluate=0.0)
    values = np.random.default_rng(0).random(int(context.run_config["values"]), np.float32)
    start = ArrayRecord({"flat": Array(values)})
    strategy.start(grid=grid, initial_arrays=start, num_rounds=ROUNDS, evaluate_fn=tick)
    with open(context.run_config["out"], "w") as file:
        file.write(repr([b - a for a, b in zip(clock, clock[1:])]))
"""

PEER_PROJECT = """
[project]
name = "peer"
version = "1.0.0"
license = "Apache-2.0"
[tool.flwr.app]
publisher = "peer"
[tool.flwr.app.components]
serverapp = "peer.app:server"
clientapp = "peer.app:client"
[tool.flwr.app.config]
values = 0
out = ""
"""


def flowers_own(rehearsed: Rehearsal, folder: Path, values: int) -> list[float]:
    """Seconds of each round of Flower's FedAvg with an array of so many values; sites only add one."""
    kit, home, app = ServerKit(rehearsed.server), folder / "home", folder / "peer"
    (app / "peer").mkdir(parents=True)
    home.mkdir()
    (app / "pyproject.toml").write_text(PEER_PROJECT)
    (app / "peer" / "__init__.py").touch()
    (app / "peer" / "app.py").write_text(PEER.replace("ROUNDS", str(ROUNDS)))
    out = folder / "peer.json"
    environment = launch_environment(home)
    with ExitStack() as stack:
        kit.state.mkdir(exist_ok=True)
        stack.enter_context(superlink(kit, home, environment))
        for site, port in zip(kit.sites(), free_ports(len(SITES)), strict=True):
            register(site, environment)
            command = ["flower-supernode", "--superlink", f"127.0.0.1:{kit.server.superlink_port}"]
            command += ["--root-certificates", str(kit.authority), "--port", str(port)]
            key = rehearsed.site(site.name) / "keys" / "node.key"
            node = subprocess.Popen(  # noqa: S603 - Flower's own command
                [*command, "--auth-supernode-private-key", str(key)],
                env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            stack.callback(node.wait)
            stack.callback(node.terminate)
        link = Link(CONNECTION, environment, kit.state / LOG, lambda: True)
        run = submit(link, app, {"values": values, "out": str(out)})
        while not out.is_file():
            time.sleep(1)
            state = flwr(["flwr", "list", CONNECTION, "--run-id", run], environment)["runs"][0]["status"]
            if state.startswith("finished") and not out.is_file():
                raise RuntimeError(run_command(["flwr", "log", run, CONNECTION, "--show"], environment).stdout)
        return json.loads(out.read_text())


def main(megabytes: int) -> None:
    """Print each round's seconds, the sites' own and what is left."""
    with tempfile.TemporaryDirectory(prefix="fb-") as scratch:
        folder = Path(scratch)
        generate_federation(folder / "data", PhantomSettings(cases_per_site=3, cases_external=2), workers=1)
        path = configuration(folder, megabytes)
        settings = load_config(path)
        rehearsed = prepare(folder / "consortium", settings)
        name = f"benchmark-{folder.name}"
        with run_consortium(rehearsed, print):
            call("run", str(path), "--server", str(rehearsed.server), "--name", name)
        records = RunFolder(run_folder(name)).records("lesion-segmentation")
        size = (run_folder(name) / "models" / "lesion-segmentation" / "round-001.safetensors").stat().st_size
        own = flowers_own(prepare(folder / "peer-consortium", settings), folder / "peer", size // 4)
        print(f"weights: {size / 1e6:.0f} MB, {len(SITES)} sites, every round's model trained and judged")
        stem = f"lesion-segmentation/round-{ROUNDS:03d}"
        committed, judged = (run_folder(name) / path for path in (f"models/{stem}.safetensors", f"journal/{stem}.json"))
        alone = judged.stat().st_mtime - committed.stat().st_mtime
        for before, record in pairwise(records):
            entries = [*record.sites.values(), *record.evaluated.values()]
            train = max(entry.seconds or 0 for entry in record.sites.values())
            judge = max((entry.seconds or 0 for entry in before.evaluated.values()), default=0)
            seconds = record.seconds - (alone if record is records[-1] else 0)
            beyond = seconds - train - judge
            done = all(entry.status == "accepted" for entry in entries)
            print(
                f"round {record.round}: {seconds:.1f} s, sites' own {train:.1f} + {judge:.1f} s, "
                f"beyond {beyond:.1f} s{'' if done else '  (a site was missing)'}"
            )
        print(f"the last model was judged {alone:.1f} s after it was written")
        print(f"Flower's own, one exchange a round: {', '.join(f'{seconds:.1f}' for seconds in own)} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
