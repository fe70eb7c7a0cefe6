"""The bill of materials: CycloneDX in form, whole, and the same for the same checkout."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from shared.runtime.app_bundle import open_bundle

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("torch", ["cpu", "cuda"])
def test_it_lists_every_locked_package_and_the_program_by_its_content_hash(tmp_path, torch):
    def made(name):
        script = str(ROOT / "locks" / "sbom.py")
        subprocess.run([sys.executable, "-I", script, torch, str(tmp_path / name)], check=True, cwd=tmp_path)
        return (tmp_path / name).read_bytes()

    first = made("first.json")
    assert made("second.json") == first
    bill = json.loads(first)
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = bill["metadata"]["component"]
    assert (ours["name"], ours["version"], ours["type"]) == ("fedbreast", project["version"], "application")
    assert ours["hashes"] == [{"alg": "SHA-256", "content": open_bundle(ROOT).sha256}]

    text = "".join((ROOT / "locks" / name).read_text() for name in ("common.txt", f"torch-{torch}.txt"))
    pinned = dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE))
    assert {item["name"]: item["version"] for item in bill["components"]} == pinned
    assert sum(len(item["hashes"]) for item in bill["components"]) == text.count("--hash=sha256:")
    for item in bill["components"]:
        assert item["purl"] == item["bom-ref"] == f"pkg:pypi/{item['name']}@{item['version'].replace('+', '%2B')}"

    refs = [ours["bom-ref"], *(item["bom-ref"] for item in bill["components"])]
    assert len(refs) == len(set(refs))
    (root,) = bill["dependencies"]
    assert root["ref"] == ours["bom-ref"]
    assert set(root["dependsOn"]) <= set(refs)
    assert {ref.partition("@")[0] for ref in root["dependsOn"]} >= {"pkg:pypi/torch", "pkg:pypi/flwr"}
