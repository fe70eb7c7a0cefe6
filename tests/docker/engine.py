"""Images built and run without a container engine: buildah, and a stand-in for the base made of Debian's packages."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlparse

from shared.runtime.processes import processes_of

BASE = "python:3.11-slim-bookworm"
STAND_IN = r"""
FROM scratch
ADD base.tar /
RUN ln -s /usr/bin/python3.11 /usr/local/bin/python && ln -s /usr/bin/python3.11 /usr/local/bin/python3 \
    && printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d
"""
PACKAGES = "python3.11,python3.11-dev,python3.11-venv,python3-pip,ca-certificates"


class Engine:
    """buildah with a storage of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.containers = {}
        self.base = ["buildah", "--storage-driver", "overlay", "--root", folder / "images", "--runroot", folder / "run"]

    def call(self, *arguments):
        environment = os.environ | {"TMPDIR": str(self.folder)}
        done = subprocess.run([*self.base, *arguments], capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done.stdout.strip()

    def build(self, context, tag, *options):
        fixed = ["--format", "docker", "--isolation", "chroot", "--pull-never", "--layers"]
        self.call("bud", *fixed, *options, "--tag", tag, context)

    def command(self, image, command, mounts=()):
        if image not in self.containers:
            self.containers[image] = self.call("from", "--pull-never", f"fedbreast-{image}:0.1.0")
        volumes = [part for mount in mounts for part in ("--volume", mount)]
        return [*self.base, "run", "--isolation", "chroot", *volumes, self.containers[image], "--", *command]

    def run(self, image, *command, mounts=(), check=True):
        done = subprocess.run(self.command(image, command, mounts), capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def remove(self):
        self.call("rm", "--all")
        self.call("rmi", "--all", "--force")
        # buildah mounts its storage onto itself.
        subprocess.run(["umount", "--quiet", self.folder / "images" / "overlay"], check=False)
        shutil.rmtree(self.folder)


def make_base(engine):
    """The stand-in, under the real base's name."""
    folder = engine.folder / "base"
    folder.mkdir()
    (folder / "Dockerfile").write_text(STAND_IN)
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm", folder / "base.tar"]
    subprocess.run(command, check=True)
    engine.build(folder, BASE)
    shutil.rmtree(folder)


def pip_settings():
    """pip.conf of this machine in one file, and the paths it names."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    settings = {}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = " ".join(shlex.split(value))
    named = [Path(urlparse(word).path) for value in settings.values() for word in value.split()]
    # An index in a folder points to files beside itself.
    found = {path.parent if path.name == "simple" else path for path in named if path.is_absolute()}
    return settings, [path for path in found if path.parent != path and path.exists()]


def mounts(kit, *more):
    return [f"{kit}:/kit:ro", f"{kit}/state:/kit/state", *more]


def events(kit):
    log = kit / "state" / "audit.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


def wait_for(process, kit, event):
    deadline = time.monotonic() + 120
    while not any(item["event"] == event for item in events(kit)):
        assert process.poll() is None, process.stdout.read().decode()
        assert time.monotonic() < deadline, events(kit)
        time.sleep(0.3)


class Served:
    """A command in a container that goes on."""

    def __init__(self, engine, image, command, mounts, kit, until, **environment):
        self.mark = f"test-{os.getpid()}-{image}"
        given = [f"{key}={value}" for key, value in environment.items()]
        command = ["env", f"FEDBREAST_LAUNCH={self.mark}", *given, *command]
        self.process = subprocess.Popen(
            engine.command(image, command, mounts), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            wait_for(self.process, kit, until)
        except AssertionError:
            self.end()
            raise

    def end(self):
        """SIGTERM to the command itself, as an engine sends it."""
        for item in processes_of(self.mark):
            os.kill(item.pid, signal.SIGTERM)
        self.process.communicate(timeout=60)
