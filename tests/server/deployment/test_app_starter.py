"""What starts a SuperLink's apps: their tokens are on no command line. Flower's command is played."""

import os
import sys

import pytest
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResultStatus
from flwr.superlink.cli import flower_superlink as flowers_command

from server.deployment import superlink_quota
from server.deployment.app_starter import Starter

TOKEN = "5e" * 32
COMMAND = """#!{python}
import os, sys
from pathlib import Path
seen = Path("/proc/self/cmdline").read_text().split("\\0")
token = Path(sys.argv[sys.argv.index("--token-file") + 1])
told = Path({folder!r}, "telling")
told.write_text(repr((seen[2:-1], token.is_file(), token.read_text(), os.fstat(0).st_nlink)))
told.rename(Path({folder!r}) / "told")
"""


@pytest.mark.parametrize(
    ("kind", "name"), [(TaskType.SERVER_APP, "flwr-serverapp"), (TaskType.SIMULATION, "flwr-simulation")]
)
@pytest.mark.parametrize("certificates", [None, "ca.crt"])
def test_a_task_is_started_without_its_token_on_a_command_line(tmp_path, monkeypatch, kind, name, certificates):
    (tmp_path / name).write_text(COMMAND.format(python=sys.executable, folder=str(tmp_path)))
    (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    task = ExecutionSpec(
        task_type=kind, runtime_api_address="127.0.0.1:9", token=TOKEN, insecure=certificates is None,
        root_certificates_path=certificates, runtime_dependency_install=False, parent_pid=7, suppress_output=False,
        task_id=1,
    )  # fmt: skip
    starter = Starter()
    assert starter.launch(task).status == LaunchResultStatus.ACCEPTED
    (process,) = starter.started
    assert process.wait(timeout=60) == 0
    seen, is_file, token, names = eval((tmp_path / "told").read_text())  # noqa: S307 - our own script's
    assert (is_file, token, names) == (True, TOKEN, 0)
    security = ["--insecure"] if certificates is None else ["--root-certificates", certificates]
    expected = ["--runtime-api-address", "127.0.0.1:9", "--parent-pid", "7", *security, "--token-file", "/dev/stdin"]
    assert seen == expected
    assert TOKEN not in " ".join(seen)


def test_the_superlink_starts_this_starter_with_flowers_own_arguments(monkeypatch):
    module = sys.modules[flowers_command.__module__]
    before = module._get_superexec_command
    monkeypatch.setattr(module, "_get_superexec_command", before)  # put back afterwards
    monkeypatch.setattr(superlink_quota, "bind", lambda _: None)
    monkeypatch.setattr(superlink_quota.gc, "freeze", lambda: None)
    monkeypatch.setattr(superlink_quota.threading.Thread, "start", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["superlink_quota", "flower-superlink", "--help"])
    with pytest.raises(SystemExit):
        superlink_quota.main()
    given = ("127.0.0.1:9", None, "ca.crt", 7, False)
    assert module._get_superexec_command(*given) == [*superlink_quota.STARTER, *before(*given)[1:]]
    assert before(*given)[0] == "flower-superexec"
