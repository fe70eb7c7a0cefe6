"""docs/consortium.md as its reader meets it: every command of the page, in order, in a toy checkout."""

import json
import os
import re
import shutil
import signal
import subprocess
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
import tomli_w

from server.run_folder.results import read_results
from shared.runtime.audit_log import verify
from shared.runtime.children import free_ports
from shared.runtime.flower_home import BINARIES

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 560
END = """
until grep -q site-removed consortium/server/state/audit.jsonl; do sleep 1; done
kill -TERM $(jobs -p)
wait || true
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin") is None, reason="nginx is not installed"),
]


@pytest.fixture
def checkout(project, tmp_path):
    """A checkout whose default federation is a toy, and whose consortium has free ports."""
    toy = tomllib.loads((project(federation={"rounds": 2, "min_sites": 3}) / "toy.toml").read_text())
    toy["data"]["root"] = "data/phantom"
    root = tmp_path / "checkout"
    (root / "configs").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", "server", "client", "shared"):
        (root / name).symlink_to(ROOT / name)
    (root / "configs" / "quick.toml").write_text(tomli_w.dumps(toy))
    consortium = tomllib.loads((ROOT / "configs" / "consortium.toml").read_text())
    ports = zip(("port", "status_port", "superlink_port"), free_ports(3), strict=True)
    consortium["server"] |= dict(ports)
    (root / "configs" / "consortium.toml").write_text(tomli_w.dumps(consortium))
    return root


def commands():
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "docs" / "consortium.md").read_text(), re.DOTALL)
    return "".join(blocks)


def test_the_commands_of_the_page_lead_from_nothing_to_a_finished_run(checkout, tmp_path):
    environment = {
        key: value for key, value in os.environ.items() if key not in {"FEDBREAST_CACHE", "PYTEST_XDIST_WORKER"}
    }
    environment |= {
        "FEDBREAST_ROOT": str(checkout),
        "FEDBREAST_HOME": str(tmp_path / "home"),
        "PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}",
    }
    log = tmp_path / "commands.log"
    with log.open("wb") as stream:
        shell = subprocess.Popen(
            ["bash", "-exuo", "pipefail", "-c", commands() + END],
            cwd=checkout, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = shell.wait(LONGEST_S)
        finally:
            with suppress(ProcessLookupError):  # a command that failed ended the shell alone
                os.killpg(shell.pid, signal.SIGTERM)
            shell.wait(30)
    text = log.read_text(errors="replace")
    assert code == 0, text[-4000:]
    results = read_results(checkout / "runs" / "first")
    assert results.provenance.outcome == "complete"
    external = [row for row in results.rows if row.role == "external"]
    assert {row.centre for row in external} == {"centre-d"}
    assert (checkout / "runs" / "first" / "report.html").stat().st_size > 10_000
    for side in ("consortium/server", "hospitals/centre-a", "hospitals/centre-d"):
        verdict = verify(checkout / side / "state" / "audit.jsonl")
        assert verdict.broken_at is None
        assert verdict.lines > 3
    assert "site-removed" in text
    # The coordinator's folder holds the coordinator's keys alone, also after a renewal.
    holders = [
        path for path in (checkout / "consortium").rglob("*") if path.is_file() and b"PRIVATE" in path.read_bytes()
    ]
    assert {path.relative_to(checkout / "consortium").as_posix() for path in holders} == {
        "authority/ca.key", "observer/observer.key", "server/keys/observer.key", "server/keys/server.key",
    }  # fmt: skip
    entries = json.loads((checkout / "consortium/authority/issued.json").read_text())
    assert [item["revoked"] is None for item in entries if item["name"] == "centre-b"] == [False, True]
