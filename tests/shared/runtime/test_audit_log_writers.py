"""The audit log: neither several writers nor a kill break the chain."""

import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from shared.errors import RunError
from shared.runtime import audit_log
from shared.runtime.audit_line import LONGEST, START, TORN
from shared.runtime.audit_log import AuditLog, Verdict, read, verify

ROUNDS = 6


@pytest.fixture
def log(tmp_path):
    log = AuditLog(tmp_path / "state" / "audit.jsonl")
    for number in range(ROUNDS):
        log.record("round-trained", round=number, site="centre-a")
    return log


@pytest.mark.parametrize("kept", [0, 1, 100, -60, -1])
def test_a_torn_line_is_called_torn_and_the_next_event_tells_of_it(log, kept):
    lines = log.path.read_bytes().splitlines(keepends=True)
    torn = lines[5][:kept] if kept else b""
    log.path.write_bytes(b"".join(lines[:5]) + torn)
    before = json.loads(lines[4])["hash"]
    assert verify(log.path) == Verdict(5, before, 6 if kept else None, TORN if kept else "")
    assert len(list(read(log.path))) == 5
    head = log.record("run-ended")
    after = list(read(log.path))[5:]
    assert verify(log.path) == Verdict(7 if kept else 6, head, None, "")
    if kept:
        repair = after.pop(0)
        assert (repair["event"], repair["before"]) == ("log-repaired", before)
        assert (repair["torn_bytes"], repair["torn_sha256"]) == (len(torn), hashlib.sha256(torn).hexdigest())
    assert [entry["event"] for entry in after] == ["run-ended"]


def test_a_first_line_that_is_torn_and_a_tail_of_zeros_are_repaired_too(tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl")
    log.path.write_bytes(bytes(2 * LONGEST))  # a power cut may leave a file longer than what was written
    assert verify(log.path) == Verdict(0, START, 1, TORN)
    log.record("run-started")
    assert [entry["event"] for entry in read(log.path)] == ["log-repaired", "run-started"]
    assert verify(log.path).broken_at is None


def append(path, who, times):
    for number in range(times):
        AuditLog(path).record("round-trained", who=who, number=number)


def test_several_processes_append_one_chain_and_a_reader_meanwhile_finds_no_fault(tmp_path):
    path = tmp_path / "audit.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append, args=(path, who, 50)) for who in range(4)]
    for writer in writers:
        writer.start()
    seen = []
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            seen.append(verify(path))
        time.sleep(0.01)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert verify(path).lines == 200
    assert {verdict.why for verdict in [*seen, verify(path)]} == {""}
    entries = [(entry["who"], entry["number"]) for entry in read(path)]
    assert len(set(entries)) == 200
    for who in range(4):
        assert [number for one, number in entries if one == who] == list(range(50))


def test_threads_of_one_process_append_one_chain(log):
    threads = [threading.Thread(target=lambda: [log.record("beat") for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verdict = verify(log.path)
    assert (verdict.lines, verdict.broken_at) == (ROUNDS + 80, None)


def test_a_kill_at_any_moment_leaves_a_whole_or_a_torn_log_that_goes_on(tmp_path):
    path = tmp_path / "audit.jsonl"
    context = multiprocessing.get_context("spawn")
    lines = 0
    for wait in (0.0, 0.003, 0.011, 0.02):
        writer = context.Process(target=append, args=(path, os.getpid(), 100_000))
        writer.start()
        deadline = time.monotonic() + 30
        while (verify(path).lines if path.exists() else 0) <= lines + 3 and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(wait)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        verdict = verify(path)
        assert verdict.why in {"", TORN}
        assert verdict.lines > lines
        AuditLog(path).record("writer-gone")
        assert verify(path).broken_at is None
        lines = verify(path).lines


def test_a_kill_in_the_middle_of_a_repair_loses_neither_chain_nor_trace(log, monkeypatch):
    torn = b'{"at":"' + b"x" * 3000
    with log.path.open("ab") as file:
        file.write(torn)
    real = Path.open

    def opened(path, mode, *arguments):
        file = real(path, mode, *arguments)
        if mode != "r+b":
            return file
        raw = file.detach()

        class Killed(type(file)):
            def truncate(self):
                self.flush()
                raise KeyboardInterrupt

        return Killed(raw)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(KeyboardInterrupt):
        log.record("run-ended")
    monkeypatch.undo()
    assert verify(log.path).why == TORN
    log.record("run-started")
    repairs = [entry for entry in read(log.path) if entry["event"] == "log-repaired"]
    assert repairs[0]["torn_sha256"] == hashlib.sha256(torn).hexdigest()
    assert len(repairs) == 2
    assert verify(log.path).broken_at is None


def test_a_writer_that_hangs_is_named_and_a_reader_goes_on(log, monkeypatch):
    monkeypatch.setattr(audit_log, "PATIENCE", 0.05)
    with audit_log._alone(log.path):
        with pytest.raises(RunError, match="another process"):
            AuditLog(log.path).record("run-ended")
        assert verify(log.path).lines == ROUNDS


def test_a_copy_in_a_folder_that_cannot_be_written_is_verified(log):
    folder = log.path.parent
    (folder / "audit.jsonl.lock").touch()
    folder.chmod(0o500)
    (folder / "audit.jsonl.lock").chmod(0o400)
    try:
        assert verify(log.path).lines == ROUNDS
    finally:
        folder.chmod(0o700)


def test_a_line_that_is_just_being_written_is_not_called_torn(log):
    line = log.path.read_bytes().splitlines(keepends=True)[-1]
    held, checked = threading.Event(), []

    def write_slowly():
        with audit_log._alone(log.path):
            os.truncate(log.path, log.path.stat().st_size - 40)
            held.set()
            time.sleep(0.2)
            with log.path.open("ab") as file:
                file.write(line[-40:])

    writer = threading.Thread(target=write_slowly)
    writer.start()
    held.wait()
    checked.append(verify(log.path))
    writer.join()
    assert (checked[0].lines, checked[0].why) == (ROUNDS, "")


def test_a_line_is_on_the_disk_before_record_returns(log, monkeypatch):
    kept = []
    monkeypatch.setattr(audit_log.os, "fsync", lambda descriptor: kept.append(os.fstat(descriptor).st_size))
    log.record("run-ended")
    assert kept == [log.path.stat().st_size]
