"""A run folder made by hand, a server's kit with certificates of its own, and a free port."""

import json
import socket
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from server.monitoring import snapshot as reading
from server.monitoring.status_service import serve_status
from shared.metrics.sums import Moments, Sums

TASK = "lesion-segmentation"
SITES = ("centre-a", "centre-b")


def entry(status="accepted", cases=5, loss=0.5, dice=None, reason=""):
    sums = Sums({"n": len(dice), "dice": sum(map(Moments.of, dice), Moments())}) if dice else None
    good = status == "accepted"
    return {
        "status": status, "reason": reason, "cases": cases if good else 0, "seconds": 3.0 if good else None,
        "loss": loss if good else None, "validation": sums.to_flat() if sums else None,
    }  # fmt: skip


class RunFolder:
    """Files of a run, written one at a time."""

    def __init__(self, runs, name="first"):
        self.runs, self.name, self.path = runs, name, runs / name

    def write(self, name, content):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text(content if isinstance(content, str) else json.dumps(content))
        draft.replace(path)

    def start(self, rounds=4, sites=SITES, tasks=(TASK,), data=None):
        config = {"name": "tiny", "tasks": list(tasks), "federation": {"rounds": rounds, "min_sites": 1}}
        config["data"] = {"root": "nowhere", "sites": list(sites)} | (data or {})
        self.write("config.toml", tomli_w.dumps(config))
        self.write("started.json", {"at": "2026-01-02T03:04:05+00:00"})
        (self.runs / "latest").unlink(missing_ok=True)
        (self.runs / "latest").symlink_to(self.name)
        return self

    def progress(self, phase, done=0, total=0, text="", at=1_767_323_050.0):
        self.write("progress.json", {"phase": phase, "done": done, "total": total, "text": text, "at": at})

    def commit(self, number, sites, seconds=10.0, task=TASK):
        record = {
            "task": task,
            "round": number,
            "model_hash": f"{number:064d}"[::-1],
            "seconds": seconds,
            "sites": sites,
        }
        self.write(f"journal/{task}/round-{number:03d}.json", record)


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "runs").start()


@pytest.fixture(autouse=True)
def nothing_remembered():
    for kept in (reading._assemble, reading._round, reading._config):
        kept.cache_clear()


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Authority:
    """A consortium's certificate authority."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        usage = x509.KeyUsage(*(name in {5, 6} for name in range(9)))
        self.certificate = self._signed(
            self.name, self.key, [(x509.BasicConstraints(ca=True, path_length=0), True), (usage, True)]
        )

    def _signed(self, subject, key, extensions):
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + timedelta(days=1))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, unit, name):
        """A certificate and its key, PEM."""
        key = ec.generate_private_key(ec.SECP384R1())
        server = unit == "server"
        use = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))] if server else [x509.DNSName(name)]
        subject = x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit), x509.NameAttribute(NameOID.COMMON_NAME, name)]
        )
        extensions = [(x509.ExtendedKeyUsage([use]), False), (x509.SubjectAlternativeName(names), False)]
        return self._signed(subject, key, extensions), pem_key(key)

    def revoke(self, *certificates):
        """A list of revoked certificates, PEM."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name)
        builder = builder.last_update(now).next_update(now + timedelta(days=1))
        for item in certificates:
            revoked = x509.RevokedCertificateBuilder().serial_number(item.serial_number).revocation_date(now).build()
            builder = builder.add_revoked_certificate(revoked)
        return pem(builder.sign(self.key, hashes.SHA256()))


def pem(item):
    return item.public_bytes(serialization.Encoding.PEM)


def pem_key(key):
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form)


@pytest.fixture(scope="session")
def authority():
    return Authority()


@pytest.fixture
def kit(tmp_path, authority, port):
    """A server's kit as `fedbreast provision` writes it, as far as the status service reads it."""
    folder = tmp_path / "server"
    for part in ("certificates", "keys"):
        (folder / part).mkdir(parents=True)
    settings = {"name": "c", "profile": "trial", "address": "fed.example.org", "port": 9, "status_port": port}
    (folder / "server.toml").write_text(tomli_w.dumps(settings))
    (folder / "certificates" / "ca.crt").write_bytes(pem(authority.certificate))
    (folder / "certificates" / "crl.pem").write_bytes(authority.revoke())
    for unit in ("server", "observer"):
        certificate, key = authority.issue(unit, unit)
        (folder / "certificates" / f"{unit}.crt").write_bytes(pem(certificate))
        (folder / "keys" / f"{unit}.key").write_bytes(key)
    return folder


@pytest.fixture
def service(kit, run, port):
    """The status service over a run in its first round."""
    run.progress("train", 1, 4)
    run.commit(1, {"centre-a": entry(loss=0.25, dice=[0.5])})
    server = serve_status(kit, run.runs, "127.0.0.1", port)
    yield server
    server.stop(None).wait(5)
