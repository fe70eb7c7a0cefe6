"""What a network does to a real consortium: scenarios 1 to 9. Slow."""

import signal
import time
from pathlib import Path

import pytest

from tests.network.consortium import LONGEST_S, SERVER, signal_all, wait_for
from tests.network.proxy import Faults

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc"),
]

ONE_MBIT = 125_000
HALF_A_MODEL = 30_000


def test_scenario_1_latency_and_jitter_of_one_site_change_nothing(consortium, reference):
    found = consortium()
    found.proxies["centre-b"].faults = Faults(latency_s=0.2, jitter_s=0.2)
    assert found.run().wait(LONGEST_S) == 0, found.output
    assert found.hashes == reference()


def test_scenario_1_two_seconds_each_way_change_nothing(consortium, reference):
    # A message costs some ten round trips, so a run takes minutes.
    found = consortium(federation={"rounds": 1, "round_timeout_s": 600, "join_timeout_s": 300})
    found.proxies["centre-b"].faults = Faults(latency_s=2.0, jitter_s=0.5)
    assert found.run().wait(3 * LONGEST_S) == 0, found.output
    assert found.hashes == reference()


def test_scenario_2_a_narrow_line_changes_nothing(consortium, reference):
    found = consortium()
    found.proxies["centre-b"].faults = Faults(up_bytes_per_s=ONE_MBIT, fragment=1400)
    assert found.run().wait(LONGEST_S) == 0, found.output
    assert found.hashes == reference()


def test_scenario_2_an_upload_longer_than_the_deadline_is_cut_off_as_a_straggler(consortium, reference):
    found = consortium(model={"channels": [96, 96]}, federation={"rounds": 1, "round_timeout_s": 30})
    found.proxies["centre-b"].faults = Faults(up_bytes_per_s=ONE_MBIT, fragment=1400)
    assert found.run().wait(LONGEST_S) == 3, found.output
    assert found.missed == {("centre-b", 1)}
    assert found.records[1].sites["centre-b"].reason == "no answer before the deadline"
    assert found.hashes == reference({("centre-b", 1)})


def test_scenario_3_an_upload_that_is_reset_half_way_is_sent_again_and_counts_once(consortium, reference):
    found = consortium()
    line = found.proxies["centre-b"]
    line.faults = Faults(break_up_after=HALF_A_MODEL)
    assert found.run().wait(LONGEST_S) == 0, found.output
    assert line.seen["broken up"] == 1
    assert found.statuses("centre-b") == ["accepted", "accepted"]
    assert found.hashes == reference()


def test_scenario_4_bytes_that_come_one_by_one_are_the_same_bytes(consortium, reference):
    found = consortium()
    found.proxies["centre-b"].faults = Faults(fragment=1)
    assert found.run().wait(LONGEST_S) == 0, found.output
    assert found.hashes == reference()


def test_scenario_5_a_message_whose_end_is_missing_is_never_taken_for_whole(consortium, reference):
    found = consortium()
    line = found.proxies["centre-b"]
    # Down: the app's bundle twice, then the global model. Up: the site's own model.
    line.faults = Faults(break_up_after=HALF_A_MODEL, break_down_after=HALF_A_MODEL, break_by="end", times=3)
    code = found.run().wait(LONGEST_S)
    assert line.seen["broken up"] >= 1
    assert line.seen["broken down"] == 3
    assert code == (3 if found.missed else 0), found.output
    assert set(found.statuses("centre-b")) <= {"accepted", "absent"}
    assert found.hashes == reference(found.missed)


@pytest.mark.parametrize("cut", ["refused", "silent"])
def test_scenario_6_a_partition_that_ends_before_the_deadline_costs_nothing(consortium, reference, cut):
    found = consortium()
    running = found.run()
    assert wait_for(lambda: found.in_phase("round 1: training"))
    with found.proxies["centre-b"].partition(cut):
        time.sleep(15)
    assert running.wait(LONGEST_S) == 0, found.output
    assert found.hashes == reference()


@pytest.mark.parametrize("cut", ["refused", "silent"])
def test_scenario_6_a_site_that_was_cut_off_for_a_minute_is_back_in_the_next_round(consortium, reference, cut):
    # Without the site a round takes a second: there must be some left when it is back.
    found = consortium(federation={"rounds": 40, "round_timeout_s": 20})
    running = found.run()
    assert wait_for(lambda: found.in_phase("round 1: training"))
    with found.proxies["centre-b"].partition(cut):
        time.sleep(60)
    assert wait_for(found.connected)
    if cut == "silent":  # some call notices only now that it waits in vain, and the node starts anew
        time.sleep(5)
        assert wait_for(found.connected)
    back = len(found.committed())  # the round that goes on now began without the site
    assert running.wait(LONGEST_S) == 3, found.output
    assert found.statuses("centre-b")[0] in {"absent", "failed"}  # failed where the cut met its upload
    assert set(found.statuses("centre-b")[back:]) == {"accepted"}
    assert found.hashes == reference(found.missed)


def test_scenario_7_a_partition_past_the_deadline_leaves_the_site_out_and_the_round_goes_on(consortium, reference):
    # Long enough to be cut off before the answer is on its way.
    found = consortium(training={"steps_per_round": 60}, federation={"round_timeout_s": 20})
    running = found.run()
    assert wait_for(lambda: found.in_phase("round 2: training"))
    with found.proxies["centre-b"].partition():
        assert running.wait(LONGEST_S) == 3, found.output
    assert found.statuses("centre-b") == ["accepted", "absent"]
    assert found.hashes == reference({("centre-b", 2)})
    assert "finished, but not with every site: centre-b was absent in round 2 (" in found.output
    assert "Traceback" not in found.output


def test_scenario_8_below_min_sites_the_run_ends_at_the_deadline_and_resumes_to_the_same_bytes(consortium, reference):
    found = consortium(federation={"round_timeout_s": 20, "min_sites": 2})
    running = found.run()
    assert wait_for(lambda: found.in_phase("round 2: training"))
    began, failed = time.monotonic(), found.said(SERVER, "run-failed")
    with found.proxies["centre-b"].partition():
        assert running.wait(LONGEST_S) == 1, found.output
    assert time.monotonic() - began < 20 + 30
    assert found.said(SERVER, "run-failed") == failed + 1
    committed = found.committed()
    assert len(committed) == 2
    assert "round 2 of lesion-segmentation has 1 good answers, federation.min_sites is 2 (centre-b:" in found.output
    assert "mend and resume" in found.output
    assert "Traceback" not in found.output
    assert found.run(resume=True).wait(LONGEST_S) == 0, found.output
    assert found.committed().items() > committed.items()
    assert found.hashes == reference()


@pytest.mark.parametrize(("seconds", "idle_cut_s"), [(20, 2), (200, 15)])  # longer than nginx and Flower wait
def test_scenario_9_silent_training_outlives_connections_that_are_cut_when_idle(
    consortium, reference, seconds, idle_cut_s
):
    found = consortium(federation={"round_timeout_s": 120 + seconds})
    before = {site: found.said(site, "connected") for site in found.proxies}
    for line in found.proxies.values():
        line.faults = Faults(idle_cut_s=idle_cut_s)
    running = found.run()
    workers = wait_for(lambda: found.training("centre-b"))
    signal_all(workers, signal.SIGSTOP)
    time.sleep(seconds)
    signal_all(workers, signal.SIGCONT)
    assert running.wait(LONGEST_S) == 0, found.output
    assert found.proxies["centre-b"].seen["idle"] > 0
    assert {site: found.said(site, "connected") for site in found.proxies} == before
    assert found.hashes == reference()
