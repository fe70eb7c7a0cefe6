"""Sites without images: they answer every message at once, from tiny arrays, in the agreed form. For long runs."""

import gc
import os
import sys
from pathlib import Path

import numpy as np
from flwr.app import Message

from server.federation.rounds import Federation
from server.run_folder.journal import RunFolder
from server.studies.in_process_grid import InProcessGrid
from shared.config.run_config import parse_config
from shared.messages.instruction_reply import Reply, SiteFacts
from shared.messages.records import read_instruction, write_reply
from shared.messages.versions import own_versions
from shared.metrics.sums import Moments, Sums
from shared.modalities.mri.fingerprint import fingerprint_region
from shared.modalities.mri.region import BreastRegion
from shared.tasks import task_named
from shared.training import learning_rate
from shared.types import Grid

TASK = "lesion-segmentation"
SUMS = Sums.zero(task_named(TASK).kinds) + Sums({"n": 1, "dice": Moments.of(0.5)})
PAGE = os.sysconf("SC_PAGE_SIZE")


def fingerprint():
    phases = np.arange(4 * 8**3, dtype=np.float32).reshape(4, 8, 8, 8) % 7
    breast = np.ones((8, 8, 8), bool)
    grid = Grid((8, 8, 8), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    return fingerprint_region(BreastRegion(phases, breast, breast, grid, (0, 0, 0), "left"))


def site(message, context):
    """What a site answers: its cases are counted, its training moves the weights a little."""
    item = read_instruction(message)
    reply = {"site": item.site, "run": item.run, "round": item.round}
    kind = message.metadata.message_type
    if kind == "query.register":
        reply |= {"sites": (context.node_id - 1,), "versions": own_versions()}
        reply |= {"facts": {context.node_id - 1: SiteFacts(cases=5, labelled={TASK: 5}, disk_mb=1000, memory_mb=1000)}}
    elif kind == "query.fingerprint":
        reply["fingerprints"] = {"mri": fingerprint() + fingerprint()}
    elif kind == "query.prepare":
        reply |= {"included": {"train": 2, "validation": 1, "test": 0}, "labelled": {TASK: 2}}
    elif kind == "train":
        view = item.config.for_task(item.task)
        rate = learning_rate(view, (item.round - 1) * view.training.steps_per_round)
        moved = item.weights + np.float32(rate / 40 * context.node_id)  # within one of the round's steps
        reply |= {"weights": moved, "manifest": item.manifest, "cases": 2, "loss": 0.5}
        reply |= {"sums": SUMS} if item.evaluating else {}
    else:
        reply |= {"sums": SUMS, "cases": 1}
    return Message(content=write_reply(Reply(**reply)), reply_to=message)


def federate(folder, sites, rounds, channels=(8, 8), client=site, after_round=lambda _: None, resume=False):
    """Rounds of a federation of such sites, its run in `folder`; return their records."""
    names = [f"site-{number}" for number in range(sites)]
    config = parse_config(
        {
            "name": "tiny",
            "data": {"root": "none", "sites": names},
            "model": {"channels": list(channels), "deep_supervision": 1},
            "federation": {"rounds": rounds},
        },
        "tiny",
    )

    def report(phase, done, total, text):
        if phase == "train" and ", validation mean Dice" in text:
            after_round(done)

    run = RunFolder.resume(Path(folder))[0] if resume else RunFolder.create(Path(folder), config)
    try:
        federation = Federation(InProcessGrid(client, {}, sites), config, run, report)
        federation.register()
        return federation.train(task_named(TASK))
    finally:
        run.release()


def resident():
    """Bytes of memory this process holds now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def peak(folder, sites):
    """Bytes by which the peak of memory exceeds that before a round, and of one update."""
    values = []
    before = 0

    def counted(message, context):
        nonlocal before
        if message.metadata.message_type == "train" and not values:
            before = resident()
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        answer = site(message, context)
        if message.metadata.message_type == "train":
            values.append(4 * int(answer.content["weights"]["flat"].shape[0]))
        return answer

    federate(folder, sites, 1, channels=(32, 64, 96, 128, 160), client=counted)
    lines = Path("/proc/self/status").read_text().splitlines()
    highest = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return highest - before, values[0]


if __name__ == "__main__":
    # A process each, from one that has imported everything: what one run left in memory must not help the next.
    for number in sys.argv[2:]:
        if os.fork() == 0:
            sys.stdout.write("{} {}\n".format(*peak(f"{sys.argv[1]}/{number}", int(number))))
            sys.stdout.flush()
            os._exit(0)
        os.wait()
