"""What docker/ promises, read from its files: closed containers, no open door, versions of this release."""

import re
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from server.deployment.provisioning.consortium_file import Consortium
from server.deployment.provisioning.kits import IMAGES, kit_text
from shared.runtime.app_bundle import stage_app

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SITES = ("centre-a", "centre-b", "centre-c", "centre-d")
HADOLINT = Path(sys.executable).with_name("hadolint")


def consortium_file():
    return (ROOT / "docker" / "consortium.compose.yaml").read_text()


def kit_file(kind):
    consortium = Consortium.model_validate(tomllib.loads((ROOT / "configs" / "consortium.toml").read_text()))
    text = kit_text(f"{kind}_compose.yaml.j2", consortium, datetime.now(UTC), {"site": "centre-a"}).decode()
    return re.sub(r"\$\{SITE_DATA:\?[^}]*\}", "/srv/site", text)


FILES = {
    "consortium": consortium_file,
    "server's kit": lambda: kit_file("server"),
    "site's kit": lambda: kit_file("site"),
}


def manifests():
    return list(yaml.safe_load_all((ROOT / "docker" / "kubernetes" / "server.yaml").read_text()))


def of_kind(kind):
    return next(item for item in manifests() if item["kind"] == kind)


def stages():
    """Each target's instructions, those of the stages it stands on first."""
    found, parent, name = {}, {}, ""
    for line in re.sub(r"\\\n", " ", DOCKERFILE.read_text()).splitlines():
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            name = match[2]
            found[name] = [*found.get(match[1], []), line]
            parent[name] = match[1]
        elif name and line and not line.startswith("#"):
            found[name].append(line)
    return found


def instruction(target, word):
    return [line.removeprefix(word).strip() for line in stages()[target] if line.startswith(f"{word} ")]


@pytest.mark.skipif(not HADOLINT.is_file() and shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_finds_nothing():
    command = str(HADOLINT) if HADOLINT.is_file() else "hadolint"
    done = subprocess.run([command, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("target", ["server", "client", "client-gpu"])
def test_an_image_runs_as_an_account_without_rights(target):
    assert instruction(target, "USER")[-1] == "10001:10001"
    assert instruction(target, "ENTRYPOINT")[-1] == '["fedbreast"]'  # no shell between a signal and us
    assert instruction(target, "HEALTHCHECK")
    last = "\n".join(line for line in stages()[target] if line.startswith("RUN"))
    assert "gcc" not in last
    assert "pip install" not in last


def test_the_release_is_the_projects():
    version = PROJECT["version"]
    assert f'org.opencontainers.image.version="{version}"' in DOCKERFILE.read_text()
    assert set(IMAGES.values()) == {f"fedbreast-{target}:{version}" for target in ("server", "client", "client-gpu")}
    assert of_kind("Deployment")["metadata"]["labels"]["app.kubernetes.io/version"] == version
    named = set(re.findall(r"fedbreast-[a-z-]+:[0-9.]+", (ROOT / "docker" / "README.md").read_text()))
    assert named == set(IMAGES.values())


def test_images_are_of_the_python_that_versions_were_resolved_for():
    assert "ARG PYTHON_IMAGE=python:3.11-slim-bookworm\n" in DOCKERFILE.read_text()
    assert "Python 3.11" in (ROOT / "constraints.txt").read_text().splitlines()[0]
    assert "/usr/local/lib/python3.11/" in DOCKERFILE.read_text()


def test_an_image_takes_every_package_by_its_hash():
    asked = [line for target in ("packages", "packages-gpu") for line in instruction(target, "RUN") if " pip " in line]
    assert len(asked) == 2
    for line, torch in zip(asked, ("cpu", "cuda"), strict=True):
        assert "--require-hashes --no-deps" in line
        locks = re.findall(r"--requirement (\S+)", line)
        assert locks == ["locks/common.txt", f"locks/torch-{torch}.txt"]
        assert all((ROOT / lock).is_file() for lock in locks)


def test_what_hospitals_approve_enters_the_image_whole(tmp_path):
    travels = {path.name for path in stage_app(ROOT, tmp_path / "app").iterdir()}
    copied = {
        name
        for line in stages()["application"]
        if line.startswith("COPY") and "--from" not in line
        for name in line.split()[1:-1]
    }
    assert travels <= copied
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert allowed == copied | {"constraints.txt"}


def test_nothing_enters_the_build_but_what_is_named():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"


@pytest.mark.parametrize(("running", "healthy"), [("client.node.supernode", True), ("client.nodes", False)])
def test_a_node_is_healthy_while_its_process_runs(tmp_path, running, healthy):
    shell = re.search(r'CMD \["sh", "-c", "(.*)"\]', DOCKERFILE.read_text())[1].replace("\\\\", "\\")
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cmdline").write_bytes(b"\0".join([b"/opt/venv/bin/python", b"-m", running.encode(), b"{}", b""]))
    # The check itself is a process too, and must not find itself.
    (tmp_path / "8").mkdir()
    (tmp_path / "8" / "cmdline").write_bytes(b"\0".join([b"sh", b"-c", shell.encode(), b""]))
    done = subprocess.run(["sh", "-c", shell.replace("/proc", str(tmp_path))], check=False)
    assert (done.returncode == 0) is healthy


@pytest.mark.parametrize("name", FILES)
def test_a_compose_file_keeps_to_the_specification(name):
    found = yaml.safe_load(FILES[name]())
    PyCompose.from_yaml(yaml.safe_dump({key: value for key, value in found.items() if not key.startswith("x-")}))
    for service in found["services"].values():
        assert set(service.get("networks", [])) <= set(found.get("networks", {}))


def test_the_check_of_compose_files_sees_a_wrong_word():
    with pytest.raises(ValueError, match="read_onli"):
        PyCompose.from_yaml("services: {server: {image: a, read_onli: true}}")


@pytest.mark.parametrize("name", FILES)
def test_every_container_is_closed(name):
    found = yaml.safe_load(FILES[name]())
    for service in found["services"].values():
        closed = service | found["services"].get(service.get("extends", {}).get("service"), {})
        assert closed["user"] == "10001:10001"
        assert closed["read_only"] is True
        assert closed["cap_drop"] == ["ALL"]
        assert closed["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(closed)
        written = {mount.split(":")[1] for mount in closed["volumes"] if not mount.endswith(":ro")}
        assert written <= {"/kit/state", "/work/runs"}
        assert not any("docker.sock" in mount for mount in closed["volumes"])


def test_no_container_takes_all_of_the_machine():
    for service in yaml.safe_load(consortium_file())["services"].values():
        assert {"cpus", "mem_limit", "pids_limit"} <= set(service)
        assert {"max-size", "max-file"} == set(service["logging"]["options"])


def test_a_hospital_reaches_the_server_and_nothing_else():
    found = yaml.safe_load(consortium_file())
    services, networks = found["services"], found["networks"]
    assert set(services) == {"server", *SITES}
    for site in SITES:
        assert services[site]["networks"] == [site]  # its own, shared with the server alone
        assert networks[site] == {"internal": True}
        assert "ports" not in services[site]
        assert f"../data/phantom/{site}:/data:ro" in services[site]["volumes"]
        assert f"../hospitals/{site}:/kit:ro" in services[site]["volumes"]
        assert services[site]["depends_on"] == {"server": {"condition": "service_healthy"}}
    assert set(services["server"]["networks"]) == set(networks)
    assert services["server"]["ports"] == ["127.0.0.1:9444:9444"]
    assert services["server"]["healthcheck"]["test"] == ["CMD", "fedbreast", "health", "/kit"]


def test_ports_are_those_of_the_consortium_that_the_page_provisions():
    server = tomllib.loads((ROOT / "configs" / "consortium.toml").read_text())["server"]
    asked = [server["port"], server["status_port"]]
    assert instruction("server", "EXPOSE") == [" ".join(map(str, asked))]
    assert [port["port"] for port in of_kind("Service")["spec"]["ports"]] == asked
    (container,) = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    assert [port["containerPort"] for port in container["ports"]] == asked


def test_kubernetes_takes_every_manifest():
    for manifest in manifests():
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_pod_is_closed():
    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["automountServiceAccountToken"] is False
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["image"] == IMAGES["server_image"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} == set(container["resources"])
    assert of_kind("Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert pod["containers"][0][probe]["exec"] == {"command": ["fedbreast", "health", "/kit"]}


def test_the_pods_keys_are_its_own_as_the_server_demands(tmp_path):
    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    (_, _, script) = pod["initContainers"][0]["command"]
    secret, keys = tmp_path / "secret", tmp_path / "keys"
    for folder in (secret, keys):
        folder.mkdir()
    (secret / "server.key").write_text("key")
    (secret / "server.key").chmod(0o440)  # what fsGroup makes of a Secret's 0400
    subprocess.run(["sh", "-c", script.replace("/secret/", f"{secret}/").replace(" /keys", f" {keys}")], check=True)
    assert (keys / "server.key").stat().st_mode & 0o777 == 0o600
    mounts = {item["mountPath"]: item["name"] for item in pod["containers"][0]["volumeMounts"]}
    assert mounts["/kit/keys"] == "keys"
    assert "secret" not in mounts.values()


def test_the_server_calls_nobody():
    policy = of_kind("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == [9443, 9444]
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53}
