"""A real run that lasts, whose disk fills, and one of whose hospitals is shut out meanwhile: 17, 49 and 62. Slow."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from server.deployment.provisioning.members import revoke
from tests.mounts import enlarge, fill, small_disk
from tests.network.consortium import LONGEST_S, SERVER, SITES, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc"),
]


def test_scenario_17_over_200_rounds_no_process_grows(consortium):
    found = consortium(training={"steps_per_round": 1}, federation={"rounds": 200})
    running = found.run()
    assert wait_for(lambda: len(found.committed()) > 20, 2 * LONGEST_S)
    early = found.resident(SERVER, *SITES)
    assert wait_for(lambda: len(found.committed()) > 198, 4 * LONGEST_S)
    late = found.resident(SERVER, *SITES)
    assert running.wait(LONGEST_S) == 0, found.output
    assert all(late[name] < 1.05 * early[name] for name in early & late)


def test_scenario_49_a_site_that_is_revoked_while_it_trains_is_out_of_this_round_and_all_later(consortium, reference):
    found = consortium(training={"steps_per_round": 60}, federation={"rounds": 3})
    removed = found.said(SERVER, "site-removed", site="centre-b")
    running = found.run()
    assert wait_for(lambda: found.training("centre-b"))
    revoke(found.rehearsal.coordinator, "centre-b", datetime.now(UTC))
    try:
        assert running.wait(LONGEST_S) == 3, found.output
        assert found.said(SERVER, "site-removed", site="centre-b") == removed + 1
        assert found.missed == {("centre-b", number) for number in (1, 2, 3)}
        assert found.hashes == reference(found.missed)
    finally:
        found.join("centre-b")


def test_scenario_62_a_servers_full_disk_ends_the_run_once_and_it_resumes_to_the_same_bytes(consortium, reference):
    found = consortium(training={"steps_per_round": 60})
    with small_disk(found.root / "runs", "2m") as disk:
        running = found.run()
        assert wait_for(lambda: found.in_phase("round 2: training"))
        committed = found.committed()
        filler = fill(disk)
        assert running.wait(60) == 1, found.output
        assert f"no space left below runs/{found.name}: free some and resume" in found.output
        assert "Traceback" not in found.output
        assert found.said(SERVER, "run-started", run=found.name) == 1
        assert found.said(SERVER, "run-failed", run=found.name) == 1
        assert found.committed() == committed
        filler.unlink()
        enlarge(disk, "64m")
        assert found.run(resume=True).wait(LONGEST_S) == 0, found.output
        assert found.committed().items() > committed.items()
        assert found.hashes == reference()
