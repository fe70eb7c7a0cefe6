"""How each kind of fault of a soak is made, and undone. Who ended is started again by `Soak`, as init does."""

import os
import signal
import time
from contextlib import suppress

from tests.mounts import fill, stalled
from tests.network.consortium import SERVER, signal_all, wait_for
from tests.network.proxy import Faults

APPEARS_S = 60
HALF_A_MODEL = 30_000


def _killed(words):
    """Kill a member's processes whose command line holds the words, once there are any."""

    def make(soak, fault):
        signal_all(wait_for(lambda: soak.found.members(fault.member, words), APPEARS_S), signal.SIGKILL)

    return make


def _worker_killed(soak, fault):
    signal_all(wait_for(lambda: soak.found.workers(fault.member), APPEARS_S), signal.SIGKILL)


def _nginx_killed(soak, fault):
    number = int((soak.found.kit(SERVER) / "state" / "nginx" / "nginx.pid").read_text())
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)


def _member_killed(soak, fault):
    soak.found.kill(fault.member)


def _without_power(soak, fault):
    soak.found.unplug(fault.member)
    time.sleep(fault.seconds)


def _all_without_power(soak, fault):
    soak.running.kill()
    soak.running.wait()
    for name in soak.found.processes:
        soak.found.unplug(name)
    time.sleep(fault.seconds)


def _asleep(words):
    """Stop a member's processes whose command line holds the words for some seconds."""

    def make(soak, fault):
        stopped = soak.found.members(fault.member, words)
        signal_all(stopped, signal.SIGSTOP)
        time.sleep(fault.seconds)
        signal_all(stopped, signal.SIGCONT)

    return make


def _line(**wrong):
    """Something is wrong with a site's line for some seconds."""

    def make(soak, fault):
        line = soak.found.proxies[fault.member]
        line.seen.clear()
        line.faults = Faults(**wrong)
        time.sleep(fault.seconds)
        line.faults = Faults()

    return make


def _disk_full(soak, fault):
    filler = fill(soak.disks[fault.member])
    time.sleep(fault.seconds)
    filler.unlink()


def _server_disk_full(soak, fault):
    filler = fill(soak.disks[SERVER])
    wait_for(lambda: soak.running.poll() is not None, APPEARS_S)
    filler.unlink()


def _disk_stalled(soak, fault):
    with stalled(soak.disks[fault.member]):
        time.sleep(fault.seconds)


def _clock_wrong(soak, fault):
    clock = soak.clocks[fault.member]
    clock.put(fault.jump_s)
    time.sleep(fault.seconds)
    clock.put(0)


MAKE = {
    "node killed": _member_killed,
    "SuperNode killed": _killed("client.node.supernode"),
    "warm process killed": _killed("warm_process.py"),
    "worker killed": _worker_killed,
    "site without power": _without_power,
    "site asleep": _asleep(""),
    "line cut": _line(cut="refused"),
    "line silent": _line(cut="silent"),
    "line slow": _line(latency_s=0.3, jitter_s=0.5),
    "line narrow": _line(up_bytes_per_s=20_000, down_bytes_per_s=40_000, fragment=1400),
    "line broken off": _line(break_up_after=HALF_A_MODEL, break_down_after=HALF_A_MODEL, break_by="end", times=3),
    "line corrupted": _line(corrupt=0.2),
    "site's disk full": _disk_full,
    "site's disk stalled": _disk_stalled,
    "site's clock wrong": _clock_wrong,
    "run's app killed": _killed("flwr-serverapp"),
    "SuperLink killed": _killed("flower-superlink"),
    "SuperLink asleep": _asleep("flower-superlink"),
    "server killed": _member_killed,
    "server without power": _without_power,
    "all without power": _all_without_power,
    "nginx killed": _nginx_killed,
    "server's disk full": _server_disk_full,
    "server's disk stalled": _disk_stalled,
    "server's clock wrong": _clock_wrong,
}
"""By kind: called with the soak and the fault; returns when the fault is over."""
