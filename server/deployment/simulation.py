"""A simulation: `flwr run` with a SuperLink, a home and a port of its own, and every process ended afterwards.

Left to itself `flwr run` starts a SuperLink that stays, and a later run meets it with the first run's environment. Here
each run has its own, named by its address (Flower then treats it as the user's) and marked by an environment variable
that all its processes inherit: Ray's daemons leave the process tree, the mark stays with them.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from server.deployment.flower_cli import Link, Watch, follow, keep_log, submit
from server.deployment.superlink_quota import COMMAND
from shared.config.run_config import RunConfig, load_config
from shared.errors import ConfigError, RunError, SiteError
from shared.runtime.app_bundle import STAGE, stage_app
from shared.runtime.children import free_ports, listens, start, wait_until_ready
from shared.runtime.flower_home import launch_environment, simulation_home
from shared.runtime.processes import MARK, end_processes, guarded
from shared.runtime.project import project_root

CONNECTION = "own"

_STARTUP_S = 90.0
_PARTS = 10_000
"""The smallest part of a GPU that Ray gives is one of so many."""


def run_flower(
    config_path: Path,
    *,
    run_name: str,
    resume: str = "",
    overrides: Mapping[str, int | str] | None = None,
    watch: Watch | None = None,
) -> None:
    """Run the Flower app of this checkout in a simulation and wait for its end.

    Parameters
    ----------
    config_path
        The run's configuration.
    run_name
        The run's folder below `runs/`.
    resume
        Name of the run to resume; then `run_name` is the same. Empty for a new run.
    overrides
        More keys of `[tool.flwr.app.config]`: `seed`, `rounds`.
    watch
        Called each time the run's progress has changed.

    Raises
    ------
    RunError, KeyboardInterrupt
        The run did not finish, or SIGINT, SIGTERM or SIGHUP came; no process is left.

    """
    config = load_config(config_path)
    run_dir = project_root() / "runs" / run_name
    settings = {"config": str(config_path.resolve()), "run-name": run_name, "resume": resume, **(overrides or {})}
    with simulation_home() as scratch:
        home = Path(scratch)
        app = stage_app(project_root(), home / STAGE)
        environment = launch_environment(home)
        with guarded(home, environment[MARK]), _superlink(home, environment) as link:
            since = time.time()
            gpus = len(list(Path("/dev").glob("nvidia[0-9]*"))) if config.compute.device != "cpu" else 0
            together = sites_together(config, gpu_memory_gb()) if gpus and config.compute.gpu_memory_gb else None
            options = ["--federation-config", federation_options(len(config.data.sites), gpus, together)]
            run_id = submit(link, app, settings, options)
            failure = follow(link, run_id, run_dir / "progress.json", since, watch)
            if failure is not None:
                raise RunError(f"{failure.why}; more in {keep_log(link, run_id, run_dir)}")


def check_data(config: RunConfig) -> None:
    """Check a simulation's data before anything is trained on them.

    Raises
    ------
    SiteError
        `data.root` does not exist.
    ConfigError
        A centre is none of its folders, or phantoms are asked for where other data lie.

    """
    from shared.phantom.centres import CENTRES
    from shared.phantom.marker import is_complete
    from shared.phantom.settings import PhantomSettings

    root, external = project_root() / config.data.root, config.data.external
    if config.data.phantom is not None:
        is_complete(root, PhantomSettings(**config.data.phantom.model_dump()))
        there = {centre.site for centre in CENTRES.values()}
    elif not root.is_dir():
        raise SiteError(
            f"data.root '{config.data.root}' does not exist below {project_root()}: put one folder a site there, "
            "set data.root to the full path of where they are, or add [data.phantom] to have phantoms made",
        )
    else:
        there = {path.name for path in root.iterdir() if path.is_dir()}
    if missing := [name for name in config.data.sites if name not in there]:
        raise ConfigError(
            f"data.sites names {', '.join(missing)}, and data.root has no such folder ({', '.join(sorted(there))}): "
            "mend the name, or put the folder there"
        )
    if external is not None and external not in there:
        raise ConfigError(
            f"data.external '{external}' is no folder of data.root, and would be missed after all training: "
            "name one, or leave data.external out"
        )


def ensure_data(config: RunConfig, on_progress: Callable[[str, int, int, str], None]) -> None:
    """Check the data as `check_data`, and make the phantom where it is asked for and not there yet."""
    check_data(config)
    if config.data.phantom is None:
        return
    from shared.phantom.generate import generate_federation
    from shared.phantom.settings import PhantomSettings

    root, settings = project_root() / config.data.root, PhantomSettings(**config.data.phantom.model_dump())
    generate_federation(root, settings, on_progress=lambda done, total: on_progress("phantom", done, total, "patients"))


@contextmanager
def _superlink(home: Path, environment: Mapping[str, str]) -> Iterator[Link]:
    """Run a SuperLink of our own while the context lasts, then end it and everything that it started."""
    (port,) = free_ports(1)
    command = [*COMMAND, "flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--disable-runtime-dependency-installation"]
    connection = {"superlink": {"default": CONNECTION, CONNECTION: {"address": f"127.0.0.1:{port}", "insecure": True}}}
    (home / "config.toml").write_text(tomli_w.dumps(connection), encoding="utf-8")
    log = home / "flower.log"
    with _handlers(signal.default_int_handler, (signal.SIGTERM, signal.SIGHUP)):
        process = start(command, log, environment, home)
        try:
            wait_until_ready(process, "Flower's SuperLink", log, _STARTUP_S, lambda: listens(port))
            yield Link(CONNECTION, environment, log, lambda: process.poll() is None)
        finally:
            with _handlers(signal.SIG_IGN, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
                end_processes(environment[MARK])
                process.wait()


def federation_options(sites: int, gpus: int, together: int | None = None) -> str:
    """Flower's simulation settings: all sites at once, each with one thread, so that they share the cores evenly.

    With a number of sites that train `together` on one GPU only so many have a share of it; Ray has the others wait.
    """
    options = f"num-supernodes={sites} client-resources-num-cpus=1 init-args-num-cpus={sites}"
    if gpus:
        share = int(100 * min(gpus / sites, 1)) / 100
        if together is not None:
            # One over a whole number: of two GPUs, 0.6 each would have Flower start a third site that Ray cannot place.
            share = int(_PARTS / min(together, max(1, -(-sites // gpus)))) / _PARTS
        options += f" client-resources-num-gpus={share} init-args-num-gpus={gpus}"
    return options


def sites_together(config: RunConfig, free_gb: float) -> int:
    """How many sites of `compute.gpu_memory_gb` a GPU with so much free memory holds at once.

    `ConfigError` where it holds none.
    """
    needed = config.compute.gpu_memory_gb or 0.0
    together = int(free_gb / needed) if needed else len(config.data.sites)
    if not together:
        raise ConfigError(
            f"compute.gpu_memory_gb says that a site takes {needed:g} GB of a GPU, of which {free_gb:.1f} GB are free: "
            "lower training.patch_voxels, model.channels or training.batch_size, and with them the number"
        )
    return together


def gpu_memory_gb() -> float:
    """Free memory of the GPU that has least of it, 10^9 bytes; `RunError` where torch sees no GPU.

    Asked in a process of its own: torch keeps part of a GPU for as long as the process that has asked runs.
    """
    code = "import torch; print(min(torch.cuda.mem_get_info(item)[0] for item in range(torch.cuda.device_count())))"
    asked = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    if asked.returncode:
        raise RunError(
            "compute.gpu_memory_gb is set and torch sees no GPU here: install its CUDA build, or set "
            'compute.device = "cpu"'
        )
    return float(asked.stdout) / 1e9


@contextmanager
def _handlers(handler: Any, signals: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Handle these signals otherwise while the context lasts."""
    before = {item: signal.signal(item, handler) for item in signals}
    try:
        yield
    finally:
        for item, old in before.items():
            signal.signal(item, old)
