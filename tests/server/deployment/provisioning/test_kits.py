"""What lies in each folder: who may read it, whose keys it holds, and that the readers of kits understand it."""

import subprocess
import tomllib
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from client.node.site_kit import SiteKit
from server.deployment.provisioning.members import provision
from shared.config.run_config import parse_config
from tests.hospitals import join, make_consortium_with_hospitals

FOLDERS = ("authority", "server", "observer", "centre-a", "centre-b")


def point(public):
    return public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)


def private_keys(folder):
    """Every private key of a folder by the public point it belongs to, whatever its file is called."""
    found = {}
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if b"PRIVATE KEY" not in content:
            continue
        ssh = b"OPENSSH" in content
        load = serialization.load_ssh_private_key if ssh else serialization.load_pem_private_key
        found[point(load(content, None).public_key())] = path
    return found


def secrets_of(content):
    """A private key in each form in which it could have been written."""
    ssh = b"OPENSSH" in content
    key = (serialization.load_ssh_private_key if ssh else serialization.load_pem_private_key)(content, None)
    number = key.private_numbers().private_value
    return content.splitlines()[2], number.to_bytes(48, "big"), f"{number:x}".encode(), str(number).encode()


@pytest.fixture
def joined_apart(tmp_path, made):
    """A consortium's folder, and those of its hospitals, apart as on machines of their own."""
    root, names = tmp_path / "coordinator", ("centre-a", "centre-b")
    provision(made.parent / "toy.toml", root, datetime.now(UTC))
    return root, [join(root, name, folder=tmp_path / "hospitals" / name) for name in names]


def test_private_keys_are_their_owners_alone_and_lie_in_closed_folders(made):
    keys = [path for folder in FOLDERS for path in private_keys(made / folder).values()]
    assert len(keys) == 1 + 2 + 1 + 2 * 2
    for path in keys:
        assert path.stat().st_mode & 0o777 == 0o600, path
        assert path.parent.stat().st_mode & 0o777 == 0o700, path
    assert made.stat().st_mode & 0o777 == 0o700
    for path in (path for path in made.rglob("*") if path.is_file() and path not in keys):
        assert b"PRIVATE" not in path.read_bytes(), path


def test_no_kit_holds_anothers_private_key(made):
    points = {folder: set(private_keys(made / folder)) for folder in FOLDERS}
    for one in FOLDERS:
        for other in FOLDERS:
            if one == other or {one, other} == {"server", "observer"}:
                continue
            assert not points[one] & points[other], (one, other)
    # The server watches itself as the observer does, and holds nothing else of others.
    assert points["server"] & points["observer"] == points["observer"]
    assert len(points["server"]) == 2


def test_no_secret_of_one_folder_occurs_in_another_in_any_form(made):
    for folder in ("authority", "server", "centre-a", "centre-b"):
        for path in private_keys(made / folder).values():
            if path.name == "observer.key":
                continue
            secrets = secrets_of(path.read_bytes())
            for other in (item for name in FOLDERS if name != folder for item in (made / name).rglob("*")):
                if other.is_file():
                    assert not [secret for secret in secrets if secret in other.read_bytes()], (path, other)


def test_provisioning_from_requests_writes_no_key_of_a_hospital(joined_apart):
    """The hospitals' folders lie elsewhere; all that the coordinator has is searched, in every form of their keys."""
    root, hospitals = joined_apart
    theirs = {key: path for folder in hospitals for key, path in private_keys(folder).items()}
    assert len(theirs) == 2 * len(hospitals)
    assert not theirs.keys() & private_keys(root).keys()
    written = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes()
    }
    own = {"authority/ca.key", "server/keys/server.key", "server/keys/observer.key", "observer/observer.key"}
    assert written == own
    for path in theirs.values():
        for secret in secrets_of(path.read_bytes()):
            assert not [file for file in root.rglob("*") if file.is_file() and secret in file.read_bytes()], path


def test_keys_belong_to_the_certificates_beside_them(made):
    pairs = {
        "authority/ca.key": "authority/ca.crt",
        "server/keys/server.key": "server/certificates/server.crt",
        "server/keys/observer.key": "server/certificates/observer.crt",
        "observer/observer.key": "observer/observer.crt",
        "centre-a/keys/site.key": "centre-a/certificates/site.crt",
    }
    for key, certificate in pairs.items():
        private = serialization.load_pem_private_key((made / key).read_bytes(), None)
        public = x509.load_pem_x509_certificate((made / certificate).read_bytes()).public_key()
        assert private.public_key() == public, key


def test_a_node_key_loads_as_flower_loads_it_and_is_the_one_the_server_knows(made):
    for name in ("centre-a", "centre-b"):
        private = serialization.load_ssh_private_key((made / name / "keys/node.key").read_bytes(), None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        assert isinstance(private.curve, ec.SECP384R1)
        public = serialization.load_ssh_public_key((made / "server/sites" / f"{name}.pub").read_bytes())
        assert public == private.public_key()


def test_flower_itself_takes_the_public_key_for_registration(made):
    from flwr.cli.supernode.register import try_load_public_key

    assert try_load_public_key(made / "server/sites/centre-a.pub")


@pytest.mark.parametrize("private", [True, False])
def test_scenario_67_where_a_consortium_asks_for_privacy_each_hospital_refuses_a_run_without(tmp_path, made, private):
    said = (made.parent / "toy.toml").read_text()
    asked = 'profile = "production"\nprivacy.differential_privacy = true\n' if private else ""
    (tmp_path / "toy.toml").write_text(said.replace("[server]", f"{asked}[server]", 1))
    make_consortium_with_hospitals(tmp_path / "toy.toml", tmp_path / "out")
    run = parse_config({"name": "run", "data": {"root": "d", "sites": ["centre-a", "centre-b"]}}, "run.toml")
    for name in ("centre-a", "centre-b"):
        policy = SiteKit(tmp_path / "out" / name).node.policy
        assert policy.differential_privacy is private
        assert any("differential privacy" in told for told in policy.objections(run)) is private


def test_observers_know_where_to_look(made):
    said = tomllib.loads((made / "observer/observer.toml").read_text())
    assert said == {"address": "fed.example.org", "status_port": 9444}


def test_git_never_takes_a_consortium_into_a_repository(own):
    subprocess.run(["git", "init", "--quiet", own.parent], check=True)
    seen = subprocess.run(
        ["git", "-C", own.parent, "status", "--porcelain", "--untracked-files=all"], capture_output=True, check=True
    )
    assert seen.stdout.decode().split() == ["??", "toy.toml"]
