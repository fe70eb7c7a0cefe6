"""A soak: eight real hospitals train for many rounds while faults drawn by a seed befall them and the server. Slow.

By default 40 rounds and 25 faults, some ten minutes. Environment variables change that: `FEDBREAST_SOAK="300 104 8"`
gives rounds, faults and sites, `FEDBREAST_SOAK_SEED` a seed, `FEDBREAST_SOAK_REPORT` a file for the report (Markdown).
"""

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.mounts import own_disk
from tests.network.clocks import Clock, build, can_be_wrong
from tests.network.consortium import SERVER
from tests.network.fault_plan import draw
from tests.network.soak import Soak
from tests.network.soak_checks import GROWTH
from tests.network.soak_report import report
from tests.network.standing import in_process, replay, stand

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc"),
]

DEADLINE_S = 30
SITES = tuple(f"centre-{letter}" for letter in "abcefghi")
"""Five are copies of phantom centres; `centre-d` is the external centre, which takes no part."""


@pytest.fixture
def hospitals(phantom_root, tmp_path):
    """A folder of data for each site."""
    root = tmp_path / "data"
    shutil.copytree(phantom_root, root)
    for number, name in enumerate(SITES[3:]):
        source = SITES[number % 3]
        shutil.copytree(root / source, root / name)
        path = root / name / "site.toml"
        path.write_text(path.read_text().replace(source, name))
    return root


def test_after_every_fault_nothing_is_lost_and_all_rounds_are_those_of_a_replay(hospitals, tmp_path, toy_config):
    rounds, faults, many = map(int, os.environ.get("FEDBREAST_SOAK", "40 25 8").split())
    sites = SITES[:many]
    seed = int(os.environ.get("FEDBREAST_SOAK_SEED", "15"))
    root = tmp_path / "consortium"
    root.mkdir()
    with ExitStack() as stack:
        disks = {}
        if os.geteuid() == 0:
            places = {name: root / "consortium" / "hospitals" / name / "state" for name in sites}
            for name, place in {SERVER: root / "runs", **places}.items():
                disks[name] = stack.enter_context(own_disk(place, tmp_path / f"{name}.disk"))
        found = stack.enter_context(stand(root, hospitals, tmp_path / "cache", sites))
        clocks = {}
        if can_be_wrong():
            library = build(tmp_path)
            clocks = {name: Clock(tmp_path / f"{name}.clock", library) for name in (SERVER, *sites)}
            found.environment = {name: clock.variables for name, clock in clocks.items()}
        federation = {"rounds": rounds, "round_timeout_s": DEADLINE_S, "join_timeout_s": 60, "left_out_after": 1}
        config = toy_config(training={"steps_per_round": 1}, federation=federation)
        config["data"] = {"root": str(hospitals), "sites": list(sites)}
        found.ready(config)
        with in_process(found, tmp_path):  # to read cases from DICOM takes longer than the deadline
            for name in sites:
                shutil.copytree(tmp_path / "cache", found.kit(name) / "state" / "cache", dirs_exist_ok=True)
        able = {word for word, has in {"disks": disks, "clocks": clocks}.items() if has}
        soak = Soak(found, disks, clocks)
        kept = Path(os.environ.get("FEDBREAST_SOAK_REPORT", tmp_path / "report.md"))
        for fault in draw(seed, rounds, faults, sites, able):
            soak.make(fault)
            kept.write_text(f"- seed {seed}\n{report(soak)}")
        soak.finish(rounds)
        kept.write_text(told := f"- seed {seed}\n{report(soak)}")
        assert len(soak.done) == faults, told
        assert found.hashes == replay(found, tmp_path, found.missed), told
        assert len(found.hashes) == rounds + 1
        grown = [row for row in soak.memory.grown() if row[-1] > GROWTH * row[-2]]
        assert not grown, told
