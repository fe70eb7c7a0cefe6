import time

import pytest

from server.deployment import flower_cli
from server.deployment.flower_cli import SUPERLINK_ENDED, Failure, Link, follow
from shared.runtime.progress import write_progress


def followed(monkeypatch, tmp_path, *answers, alive=True):
    """What `follow` says when Flower answers so, one question after another."""
    left = list(answers)
    monkeypatch.setattr(flower_cli, "flwr", lambda *_: left.pop(0))
    monkeypatch.setattr(flower_cli, "_ASK_EVERY_S", (0.0, 0.0))
    monkeypatch.setattr(flower_cli, "_LOOK_EVERY_S", 0.0)
    link = Link("here", {}, tmp_path / "superlink.log", lambda: alive)
    return follow(link, "7", tmp_path / "progress.json", time.time() - 1, None)


RUNNING = {"runs": [{"status": "running"}]}
FAILED = {"runs": [{"status": "finished:failed", "status-details": "no heartbeat"}]}
RAISED = {"runs": [{"status": "finished:failed", "status-details": "ServerApp failed with exception: no space left"}]}
KILLED = Failure("the run failed: no heartbeat", own=False)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([RUNNING, {"runs": [{"status": "finished:completed"}]}], None),
        ([RUNNING, FAILED], KILLED),
        # On a full disk a run cannot write how it ended.
        ([RUNNING, RAISED], Failure("no space left", own=True)),
        # A new SuperLink took the old one's place between two looks at its port.
        (
            [RUNNING, {"success": False, "error-message": "[code: 16] Run ID not found."}],
            Failure(SUPERLINK_ENDED, own=False),
        ),
        # A question that failed says nothing of the run.
        ([{"success": False, "error-message": "timed out"}, {}, FAILED], KILLED),
    ],
)
def test_a_run_is_followed_to_its_end(monkeypatch, tmp_path, answers, expected):
    assert followed(monkeypatch, tmp_path, *answers) == expected


def test_a_superlink_that_no_longer_listens_has_ended_the_run(monkeypatch, tmp_path):
    assert followed(monkeypatch, tmp_path, alive=False) == Failure(SUPERLINK_ENDED, own=False)


def test_a_failed_runs_own_words_come_before_flowers(monkeypatch, tmp_path):
    write_progress(tmp_path / "progress.json", "failed", 0, 0, "too few sites")
    assert followed(monkeypatch, tmp_path, FAILED) == Failure("too few sites", own=True)
