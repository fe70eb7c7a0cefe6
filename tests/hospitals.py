"""Hospitals join as the pages say, in one process: request, fingerprints by telephone, admission, signed kit."""

from datetime import UTC, datetime

from client.node.admission import ask_to_join, take_in
from server.deployment.provisioning.consortium_file import load_consortium
from server.deployment.provisioning.members import admit, provision


def join(root, name, now=None, folder=None):
    """Keys for a hospital of the consortium, its first or new ones; its kit, for brevity in the consortium's folder."""
    now, folder = now or datetime.now(UTC), folder or root / name
    path, request = ask_to_join(folder, name)
    handout = admit(root, name, path, request.fingerprint, now)
    take_in(folder, root / f"{name}.kit", handout.fingerprint, now)
    return folder


def make_consortium_with_hospitals(file, root, now=None):
    """Provision a consortium; every hospital of its file joins."""
    provision(file, root, now or datetime.now(UTC))
    for name in load_consortium(file).site_names:
        join(root, name, now)
