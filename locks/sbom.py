"""Writes what an installation from the locks consists of, as a CycloneDX 1.6 bill of materials; needs no network.

`python locks/sbom.py cpu sbom.json` (or `cuda`). The same checkout gives the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))


def locked(name: str) -> list[dict[str, Any]]:
    """The packages of a lock as components; the hashes are those of all files of which pip may take one."""
    entries = re.split(r"\n(?=\S)", (ROOT / "locks" / name).read_text().strip())
    found = []
    for entry in entries:
        if match := re.match(r"([a-z0-9._-]+)==([^\s;]+)", entry):
            package, version = match.groups()
            purl = f"pkg:pypi/{package}@{version.replace('+', '%2B')}"
            hashes = [{"alg": "SHA-256", "content": item} for item in re.findall(r"--hash=sha256:(\w{64})", entry)]
            item = {"type": "library", "bom-ref": purl, "name": package, "version": version, "purl": purl}
            found.append(item | {"hashes": hashes})
    return found


def bill(torch: str) -> dict[str, Any]:
    """The bill of materials of an installation with torch for `cpu` or `cuda`."""
    from shared.runtime.app_bundle import open_bundle

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    app = open_bundle(ROOT)
    components = sorted([*locked("common.txt"), *locked(f"torch-{torch}.txt")], key=lambda item: item["purl"])
    names = {item["name"]: item["bom-ref"] for item in components}
    wanted = project["dependencies"] + project["optional-dependencies"]["radiomics"]
    direct = {re.split(r"[\[=<>!~ ]", item)[0].lower().replace("_", "-") for item in wanted}
    ours = {
        "type": "application", "bom-ref": project["name"], "name": project["name"], "version": project["version"],
        "licenses": [{"license": {"id": project["license"]}}],
        # Of the program: the content hash that hospitals approve.
        "hashes": [{"alg": "SHA-256", "content": app.sha256}],
    }  # fmt: skip
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([ours, components]))}",
        "version": 1,
        "metadata": {"component": ours},
        "components": components,
        "dependencies": [{"ref": project["name"], "dependsOn": sorted(names[item] for item in direct)}],
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(bill(sys.argv[1]), indent=1) + "\n")
