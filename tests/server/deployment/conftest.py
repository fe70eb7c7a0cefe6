"""nginx in front of a server that counts calls; tests skip, saying so, where nginx is not installed."""

import os
import shutil
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest

from server.deployment.nginx import run_nginx
from server.deployment.superlink import register, superlink
from shared.runtime.flower_home import launch_environment
from shared.runtime.processes import MARK, end_processes
from tests.server.deployment.stand import make_consortium, reached, upstream


@pytest.fixture(scope="session")
def nginx():
    if shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin") is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light to run this test")


@contextmanager
def _fronted(folder):
    consortium = make_consortium(folder)
    with upstream(consortium.kit) as seen, run_nginx(consortium.kit, os.environ, "127.0.0.1") as process:
        yield SimpleNamespace(consortium=consortium, calls=seen.calls, headers=seen.headers, process=process)


@pytest.fixture(scope="module")
def fronted(nginx, tmp_path_factory):
    """A consortium behind nginx for tests that only call it."""
    with _fronted(tmp_path_factory.mktemp("fronted")) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_before(request):
    if "fronted" in request.fixturenames:
        reached(request.getfixturevalue("fronted"))


@pytest.fixture
def own_front(nginx, tmp_path):
    """The same for a test that changes it; started when called, so that limits may be set before."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(_fronted(tmp_path))


@pytest.fixture(scope="module")
def served(nginx, tmp_path_factory):
    """SuperLink and nginx, four sites registered."""
    sites = tuple(f"centre-{letter}" for letter in "abcd")
    consortium = make_consortium(tmp_path_factory.mktemp("served"), sites)
    kit = consortium.kit
    home = kit.state / "flower"
    home.mkdir(parents=True)
    environment = launch_environment(home)
    try:
        with superlink(kit, home, environment), run_nginx(kit, environment, "127.0.0.1"):
            numbers = {site.name: int(register(site, environment)) for site in kit.sites()}
            yield SimpleNamespace(consortium=consortium, numbers=numbers, environment=environment)
    finally:
        end_processes(environment[MARK])
