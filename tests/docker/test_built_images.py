"""The images, really built and run: without a container engine, on a stand-in for the base made of Debian's packages.

Needs root, buildah, mmdebstrap, Debian's packages and PyPI (or this machine's mirrors, as pip is set up here).
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from shared.runtime.app_bundle import open_bundle, stage_app
from shared.runtime.children import free_ports
from tests.docker.engine import Engine, Served, events, make_base, mounts, pip_settings
from tests.hospitals import make_consortium_with_hospitals

ROOT = Path(__file__).resolve().parents[2]
NEEDED_GB = 13  # what the build takes at its height; 4 GB stay until the end
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("buildah", "mmdebstrap"))) or os.geteuid() != 0,
        reason="needs root, buildah and mmdebstrap: apt-get install buildah mmdebstrap",
    ),
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def engine():
    folder = Path("/var/tmp") / f"fedbreast-images-{os.getpid()}"  # noqa: S108 - a tmpfs would be too small
    folder.mkdir()
    if shutil.disk_usage(folder).free < NEEDED_GB * 1e9:
        folder.rmdir()
        pytest.skip(f"needs {NEEDED_GB} GB of free disk in /var/tmp")
    found = Engine(folder)
    try:
        yield found
    finally:
        found.remove()


@pytest.fixture(scope="module")
def checkout(engine):
    """What enters the build, as it is now: somebody may be writing in the checkout."""
    folder = stage_app(ROOT, engine.folder / "checkout")
    for name in ("constraints.txt", ".dockerignore"):
        shutil.copy(ROOT / name, folder)
    (folder / "secret.key").write_text("a key that was left lying about")
    return folder


@pytest.fixture(scope="module")
def built(engine, checkout):
    make_base(engine)
    settings, paths = pip_settings()
    secret = engine.folder / "pip.conf"
    secret.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
    options = ["--file", ROOT / "docker" / "Dockerfile", "--secret", f"id=pip,src={secret}"]
    options += [part for path in paths for part in ("--volume", f"{path}:{path}:ro")]
    if {"index-url", "find-links", "extra-index-url"} & set(settings):
        options += ["--build-arg", f"TORCH_INDEX={settings.get('index-url', 'https://pypi.org/simple')}"]
    for target in ("client", "server"):
        engine.build(checkout, f"fedbreast-{target}:0.1.0", "--target", target, *options)
    return engine


@pytest.fixture(scope="module")
def consortium(engine):
    """A consortium of one hospital on free ports of loopback, its kits owned by the containers' account."""
    folder = engine.folder / "kits"
    text = 'name = "toy"\n[server]\naddress = "127.0.0.1"\nport = {}\nstatus_port = {}\nsuperlink_port = {}\n'.format(
        *free_ports(3)
    )
    (engine.folder / "toy.toml").write_text(text + '[[sites]]\nname = "centre-a"\n')
    make_consortium_with_hospitals(engine.folder / "toy.toml", folder)
    data = engine.folder / "data"
    shutil.copytree(ROOT / "configs" / "sites" / "example", data)
    settings = (data / "site.toml").read_text().replace("hospital-north", "centre-a")
    (data / "site.toml").write_text(settings)
    (engine.folder / "runs").mkdir()
    for path in (folder / "server", folder / "centre-a", engine.folder / "runs"):
        subprocess.run(["chown", "-R", "10001:10001", path], check=True)
    engine.folder.chmod(0o755)
    return folder


@pytest.mark.parametrize("image", ["client", "server"])
def test_the_command_answers_and_runs_as_an_account_without_rights(built, image):
    assert built.run(image, "fedbreast", "--version").stdout == "fedbreast 0.1.0\n"
    assert "serve-site" in built.run(image, "fedbreast", "--help").stdout
    assert built.run(image, "id", "-u").stdout == "10001\n"


def test_nothing_of_the_program_can_be_written(built):
    found = built.run(
        "server", "find", "/opt", "/work", "/kit", "/etc", "/usr", "!", "-type", "l", "-writable", check=False
    )
    assert set(found.stdout.split()) == {"/kit/state", "/work/runs"}


def test_no_installer_no_compiler_no_mirror_and_nothing_of_the_house_is_inside(built):
    assert built.run("client", "python", "-m", "pip", check=False).returncode
    for path in ("/usr/bin/gcc", "/usr/bin/cc", "/etc/pip.conf", "/work/constraints.txt", "/work/secret.key"):
        assert built.run("client", "test", "-e", path, check=False).returncode, path


def test_the_image_holds_the_app_that_hospitals_approve(built, checkout):
    show = (
        "from pathlib import Path; from shared.runtime.app_bundle import open_bundle; "
        "print(open_bundle(Path('/work')).sha256)"
    )
    for image in ("client", "server"):
        assert built.run(image, "python", "-c", show).stdout.strip() == open_bundle(checkout).sha256


def test_the_server_has_its_own_nginx_and_a_health_check(built):
    assert "nginx/1.22" in built.run("server", "/usr/sbin/nginx", "-v").stderr
    assert built.run("client", "test", "-e", "/usr/sbin/nginx", check=False).returncode
    inspected = json.loads(built.call("inspect", "--type", "image", "fedbreast-server:0.1.0"))["Docker"]["config"]
    assert inspected["Healthcheck"]["Test"] == ["CMD", "fedbreast", "health", "/kit"]
    assert inspected["Entrypoint"] == ["fedbreast"]
    assert inspected["User"] == "10001:10001"


def test_a_server_and_a_node_in_containers_meet_and_end_when_told_to(built, checkout, consortium):
    server, site = consortium / "server", consortium / "centre-a"
    runs = f"{built.folder}/runs:/work/runs"
    built.run("client", "fedbreast", "approve", "/kit", mounts=[f"{site}:/kit"])
    assert [item["app"] for item in events(site) if item["event"] == "app-approved"] == [open_bundle(checkout).sha256]
    health = ("fedbreast", "health", "/kit")
    assert built.run("server", *health, mounts=mounts(server), check=False).returncode == 1
    serving = Served(
        built,
        "server",
        ["fedbreast", "serve", "/kit", "--host", "127.0.0.1"],
        mounts(server, runs),
        server,
        "superlink-ready",
    )
    try:
        assert "SERVING" in built.run("server", *health, mounts=mounts(server)).stdout
        node = Served(
            built, "client", ["fedbreast", "serve-site", "/kit"], mounts(site, f"{built.folder}/data:/data:ro"), site,
            "connected", FEDBREAST_SITE_DATA="/data", FEDBREAST_HOME="/kit/state/home",
        )  # fmt: skip
        node.end()
        assert events(site)[-1]["event"] == "serving-ended"
    finally:
        serving.end()
    assert events(server)[-1]["event"] == "serving-ended"
