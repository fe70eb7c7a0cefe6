"""Disks that are full, really: what was committed stays whole, the message says what to do, and then it goes on."""

import logging
import resource
from collections import deque
from contextlib import contextmanager

import pytest

from server.commands import cli
from server.federation.rounds import Federation
from server.run_folder.journal import RunFolder
from server.studies.in_process_grid import InProcessGrid
from shared.atomic_files import replace_file
from shared.errors import RunError
from shared.preprocessing.cache import read_entry
from shared.runtime.audit_log import AuditLog, verify
from shared.runtime.logs import log_to
from shared.runtime.project import load_run_config
from shared.tasks import task_named
from tests.end_to_end.tiny_sites import TASK, federate
from tests.mounts import enlarge, fill, small_disk

RUN_CONFIG = {"config": "toy.toml", "seed": -1, "rounds": -1}


def hashes(records):
    return [item.model_hash for item in records]


def names(path):
    return {str(item.relative_to(path)) for item in path.rglob("*") if item.is_file()}


@pytest.mark.parametrize("but", [0, 20_000], ids=["full to the last byte", "full for a model"])
def test_scenario_62_a_server_without_space_ends_with_the_remedy_and_resumes_when_there_is_some(tmp_path, but):
    reference = hashes(federate(tmp_path / "whole", 2, 4))
    with small_disk(tmp_path / "runs") as disk:
        run, before, fillers = disk / "one", set(), []

        def after_round(number):
            if number == 2:
                before.update(names(run))
                fillers.append(fill(disk, but))

        with pytest.raises(RunError, match=r"^no space left below runs/one: free some and resume$"):
            federate(run, 2, 4, after_round=after_round)
        assert names(run) == before  # neither torn files nor drafts
        folder, _ = RunFolder.resume(run)
        kept = folder.records(TASK)
        assert hashes(kept) == reference[:3]
        for record in kept:
            folder.model(record)  # its bytes are those that were committed
        folder.release()
        fillers[0].unlink()
        assert hashes(federate(run, 2, 4, resume=True)) == reference


@contextmanager
def no_file_longer_than(size):
    """The system's own limit, where no small disk can be mounted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_scenario_62_a_write_that_the_system_cuts_short_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "one.json"
    replace_file(path, b"old", "runs/one")
    with no_file_longer_than(5000), pytest.raises(RunError, match="no space left below runs/one"):
        replace_file(path, bytes(9000), "runs/one")
    assert names(tmp_path) == {"one.json"}
    assert path.read_bytes() == b"old"


def test_scenario_62_a_full_audit_log_says_so_and_its_chain_goes_on(tmp_path):
    with small_disk(tmp_path / "state", "64k") as disk:
        log = AuditLog(disk / "audit.jsonl")
        with pytest.raises(RunError, match=f"no space left below {disk}"):
            deque((log.record("round-committed", round=number) for number in range(1000)), maxlen=0)
        lines = verify(log.path).lines
        assert lines > 100
        enlarge(disk, "256k")
        log.record("resumed")
        assert verify(log.path).broken_at is None
        assert verify(log.path).lines in {lines + 1, lines + 2}  # with the note on the torn line


def test_scenario_62_a_log_that_cannot_be_written_prints_nothing_and_hides_no_error(tmp_path, capfd):
    with small_disk(tmp_path / "logs") as disk:
        fill(disk)

        def work():
            with log_to(disk / "site.jsonl", alone=True):
                for _ in range(2000):
                    logging.getLogger("client.a").warning("case %s is left out", "PSEUDONYM")
                raise RunError("what matters")

        with pytest.raises(RunError, match="what matters"):
            work()
    assert "PSEUDONYM" not in "".join(capfd.readouterr())


def test_scenario_62_the_command_line_tells_a_full_disk_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    with small_disk(tmp_path / "disk") as disk:
        fill(disk)
        monkeypatch.setattr(cli, "app", lambda: (disk / "site.json").write_bytes(bytes(9000)))
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("error: no space left")
    assert said.endswith("free some and call again")


def test_scenario_62_a_site_without_space_answers_an_error_keeps_no_torn_case_and_comes_back(
    project, tmp_path, monkeypatch
):
    from client.app import app

    root = project(data={"sites": ["centre-a"]}, federation={"rounds": 1})

    def run(name, **resumed):
        config = load_run_config(RUN_CONFIG)
        path = root / "runs" / name
        folder = RunFolder.resume(path)[0] if resumed else RunFolder.create(path, config)
        try:
            federation = Federation(InProcessGrid(app, RUN_CONFIG, 1), config, folder, lambda *_: None)
            federation.register()
            return hashes(federation.train(task_named(TASK)))
        finally:
            folder.release()

    reference = run("reference")
    with small_disk(tmp_path / "cache") as disk:
        monkeypatch.setenv("FEDBREAST_CACHE", str(disk))
        with pytest.raises(
            RunError, match=r"centre-a: the site could not do it: RunError: no space left below the site's cache: free"
        ):
            run("full")
        entries = [item for kind in ("regions", "cases") for item in (disk / kind).glob("*")]
        assert all(read_entry(item) is not None for item in entries)  # none is torn, no draft of one is left
        enlarge(disk, "64m")
        assert run("full", resume=True) == reference
