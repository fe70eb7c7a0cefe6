"""What becomes of a real consortium whose processes are killed or stopped: scenarios 11 to 13, 18 and 53. Slow."""

import signal
import time
from pathlib import Path

import pytest

from client.node.site_kit import SiteKit
from server.federation.site_requests import GONE
from server.run_folder.external_access import OPENED
from server.run_folder.results import read_results
from tests.network.consortium import EXTERNAL, LONGEST_S, SERVER, SITES, signal_all, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc"),
]

PHASES = {
    "register": lambda found: found.in_phase("register"),
    "prepare": lambda found: (found.folder / "plan.json").exists() and not (found.folder / "cases.json").exists(),
    "train": lambda found: found.in_phase("round 2: training"),
    "validate": lambda found: found.in_phase("round 2: validating"),
}
AFTER = {
    "external": lambda found: found.in_phase("external"),
    "report": lambda found: found.in_phase("report"),
}
"""When a run is in a phase: while its sites train, and after that."""


def whole(found, running, committed, reference):
    """The run ends complete; what was committed was not made again, and the bytes are the uninterrupted run's."""
    assert running.wait(LONGEST_S) == 0, found.output
    assert found.said(SERVER, "run-finished", run=found.name, outcome="complete") == 1
    assert found.said(SERVER, "run-started", run=found.name, resumed=True) >= 1
    assert all({item.status for item in record.evaluated.values()} == {"accepted"} for record in found.records[1:])
    assert found.committed().items() >= committed.items()
    assert [item.round for item in found.records] == [0, 1, 2]
    assert found.hashes == reference()


def honest(found, running, reference):
    """The run ends; whether it was complete is said as it was, and the bytes are those of who took part."""
    code = running.wait(LONGEST_S)
    assert code == (3 if found.missed else 0), found.output
    assert ("finished, but not with every site: centre-b" in found.output) == bool(found.missed)
    assert found.hashes == reference(found.missed)


@pytest.mark.parametrize("phase", PHASES)
def test_scenario_11_the_servers_app_is_killed_and_the_run_goes_on(consortium, reference, phase):
    found = consortium()
    running = found.run()
    assert wait_for(lambda: PHASES[phase](found))
    found.kill(SERVER, "flwr-serverapp")
    whole(found, running, found.committed(), reference)


@pytest.mark.parametrize("phase", AFTER)
def test_scenario_11_killed_after_training_the_locked_centre_is_opened_for_the_same_models(
    consortium, reference, phase
):
    found = consortium(external=True)
    running = found.run()
    assert wait_for(lambda: AFTER[phase](found))
    opened = (found.folder / OPENED).read_bytes()
    found.kill(SERVER, "flwr-serverapp")
    whole(found, running, found.committed(), reference)
    assert (found.folder / OPENED).read_bytes() == opened
    rows = [row for row in read_results(found.folder).rows if row.role == "external" and row.metric == "dice"]
    assert [(row.centre, row.n) for row in rows] == [(EXTERNAL, 3)] * len(rows)
    assert rows


@pytest.mark.parametrize("phase", ["register", "train", "validate"])
def test_scenario_11_the_superlink_is_killed_and_the_run_goes_on(consortium, reference, phase):
    found = consortium()
    running = found.run()
    assert wait_for(lambda: PHASES[phase](found))
    ended = found.said(SERVER, "superlink-ended")
    found.kill(SERVER, "flower-superlink")
    whole(found, running, found.committed(), reference)
    assert found.said(SERVER, "superlink-ended") == ended + 1


@pytest.mark.parametrize("phase", ["prepare", "train", "validate"])
def test_scenario_11_the_whole_server_is_killed_and_started_again_while_the_run_waits(consortium, reference, phase):
    found = consortium()
    running = found.run()
    assert wait_for(lambda: PHASES[phase](found))
    found.kill(SERVER)
    committed = found.committed()
    found.start(SERVER)
    whole(found, running, committed, reference)


def test_scenario_13_everything_is_killed_and_resumes_to_the_same_bytes(consortium, reference):
    found = consortium()
    running = found.run()
    assert wait_for(lambda: PHASES["train"](found))
    running.kill()
    for name in (SERVER, *SITES):
        found.kill(name)
    committed = found.committed()
    found.start()
    whole(found, found.run(resume=True), committed, reference)


def test_scenario_12_a_worker_killed_while_it_trains_is_seen_dead_and_the_round_completes(consortium, reference):
    found = consortium(training={"steps_per_round": 60})
    running = found.run()
    signal_all(wait_for(lambda: found.training("centre-b")), signal.SIGKILL)
    honest(found, running, reference)
    # Seen dead long before the deadline, and done again.
    assert found.statuses("centre-b") == ["accepted", "accepted"]
    assert found.records[1].seconds < 100


def test_scenario_12_a_whole_site_killed_and_started_again_is_back_in_a_later_round(consortium, reference):
    found = consortium(training={"steps_per_round": 60}, federation={"rounds": 3, "round_timeout_s": 90})
    running = found.run()
    assert wait_for(lambda: found.training("centre-b"))
    found.kill("centre-b")
    found.start("centre-b")
    honest(found, running, reference)
    assert found.statuses("centre-b")[2] == "accepted"


def test_scenario_12_a_site_that_loses_power_is_given_up_before_the_deadline_and_comes_back(consortium, reference):
    # Rounds without the site take a second or two: there must be some left when it is back.
    found = consortium(training={"steps_per_round": 60}, federation={"rounds": 40, "round_timeout_s": 180})
    running = found.run()
    assert wait_for(lambda: found.training("centre-b"))
    found.unplug("centre-b")
    assert wait_for(lambda: len(found.committed()) == 2)
    entry, seconds = found.records[1].sites["centre-b"], found.records[1].seconds
    found.start("centre-b")
    back = len(found.committed())
    honest(found, running, reference)
    assert (entry.status, entry.reason) == ("absent", GONE)
    assert seconds < 100
    assert set(found.statuses("centre-b")[back + 1 :]) == {"accepted"}


def test_scenario_18_the_late_answer_of_a_site_that_slept_is_dropped_and_it_goes_on(consortium, reference):
    found = consortium(training={"steps_per_round": 60}, federation={"rounds": 3, "round_timeout_s": 25})
    running = found.run()
    assert wait_for(lambda: found.training("centre-b"))
    asleep = found.members("centre-b")
    signal_all(asleep, signal.SIGSTOP)
    assert wait_for(lambda: len(found.committed()) == 2)  # the first round without it
    signal_all(asleep, signal.SIGCONT)
    assert running.wait(LONGEST_S) == 3, found.output
    # Failed where Flower missed its heartbeats before the deadline came.
    assert found.statuses("centre-b")[0] in {"absent", "failed"}
    assert found.statuses("centre-b")[2] == "accepted"
    assert found.hashes == reference(found.missed)


def test_scenario_18_a_site_that_slept_for_two_minutes_is_there_for_the_next_run(consortium, reference):
    found = consortium(training={"steps_per_round": 60}, federation={"round_timeout_s": 25})
    running, serving = found.run(), found.said("centre-b", "serving-started")
    assert wait_for(lambda: found.training("centre-b"))
    asleep = found.members("centre-b")
    began = time.monotonic()
    signal_all(asleep, signal.SIGSTOP)
    assert running.wait(LONGEST_S) == 3, found.output
    assert found.missed == {("centre-b", 1), ("centre-b", 2)}
    assert found.hashes == reference(found.missed)
    time.sleep(max(0.0, began + 120 - time.monotonic()))  # longer than Flower waits for a sign of life
    signal_all(asleep, signal.SIGCONT)
    again = consortium()
    assert again.run().wait(LONGEST_S) == 0, again.output
    assert again.hashes == reference()
    assert again.said("centre-b", "serving-started") == serving


def test_scenario_53_an_app_that_one_hospital_did_not_approve_never_runs_there(consortium, reference):
    found = consortium()
    kit = SiteKit(found.kit("centre-b"))
    before = {word: found.said("centre-b", word) for word in ("app-accepted", "app-refused", "answered")}
    answered = found.said("centre-a", "answered")
    kit.withdraw(found.app)
    try:
        assert found.run().wait(LONGEST_S) == 3, found.output
    finally:
        kit.approve(found.app, "toy")
    assert found.statuses("centre-a") == ["accepted", "accepted"]
    assert found.statuses("centre-b") == ["refused", "refused"]
    assert "approve" in found.records[1].sites["centre-b"].reason
    assert found.said("centre-b", "app-refused") > before["app-refused"]
    assert found.said("centre-b", "app-accepted") == before["app-accepted"]
    assert found.said("centre-b", "answered") == before["answered"]
    assert found.said("centre-a", "answered") > answered
    assert found.hashes == reference({("centre-b", number) for number in range(3)})
