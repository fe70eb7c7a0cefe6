"""The hashed locks: whole, of the versions that were tested, and nothing in them without a hash."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("common.txt", "torch-cpu.txt", "torch-cuda.txt")
CONSTRAINTS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
}


def entries(name):
    """Version and hashes of each package of a lock."""
    text = (ROOT / "locks" / name).read_text()
    found = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        if entry.startswith("#"):
            continue
        package, version = re.match(r"([a-z0-9._-]+)==([^\s;]+)", entry).groups()
        assert package not in found
        found[package] = version, re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_hashes_and_the_version_that_was_tested(name):
    for package, (version, hashes) in entries(name).items():
        assert hashes, package
        # What only another system, or torch for CUDA, needs is not in the constraints.
        assert version.partition("+")[0] == CONSTRAINTS.get(package, version.partition("+")[0]), package
    assert not re.search(r"https?:|file:|index-url|find-links", (ROOT / "locks" / name).read_text())


@pytest.mark.parametrize("torch", ["cpu", "cuda"])
def test_a_lock_is_whole_so_that_pip_need_not_look_for_more(torch):
    locked = {**entries("common.txt"), **entries(f"torch-{torch}.txt")}
    assert locked["torch"][0] == CONSTRAINTS["torch"] + ("+cpu" if torch == "cpu" else "")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(item) for item in project["dependencies"] + project["optional-dependencies"]["radiomics"]]
    seen, missing = set(), set()
    while wanted:
        item = wanted.pop()
        for extra in item.extras or {""}:
            if (key := (canonicalize_name(item.name), extra)) in seen:
                continue
            seen.add(key)
            if key[0] not in locked:
                missing.add(key[0])
                continue
            assert item.specifier.contains(locked[key[0]][0], prereleases=True), item
            try:
                needs = [Requirement(text) for text in requires(key[0]) or []]
            except PackageNotFoundError:  # torch for CUDA is not installed here
                continue
            wanted += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    assert missing == set()
    assert len(seen) > 60


def test_renewing_keeps_the_versions_and_splits_torch_off(tmp_path, monkeypatch):
    """With `uv` played: what it is asked for, and what becomes of its answers."""
    spec = importlib.util.spec_from_file_location("renew", ROOT / "locks" / "renew.py")
    renew = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(renew)
    asked = []

    def played(command, cwd, **_):
        wanted = (Path(cwd) / "in").read_text().split("\n")
        over = (Path(cwd) / "over").read_text()
        asked.append((wanted[0], over.strip(), [item for item in command if "torch" in item or "wheels" in item]))
        assert "torch==" not in (Path(cwd) / "constraints").read_text()
        assert {"--generate-hashes", "--universal", "--no-config"} <= set(command)
        answer = "numpy==2.4.6 \\\n    --hash=sha256:aa\n"
        if not over.strip():
            answer += f"{wanted[0]} \\\n    --hash=sha256:bb\n"
        return subprocess.CompletedProcess(command, 0, stdout=answer)

    monkeypatch.setattr(renew.subprocess, "run", played)
    monkeypatch.setattr(renew, "write", lambda name, found: (tmp_path / name).write_text(str(sorted(found))))
    (tmp_path / "wheels").mkdir()
    monkeypatch.setattr(sys, "argv", ["renew.py", "--torch-cpu", str(tmp_path / "wheels")])
    renew.main()
    version = CONSTRAINTS["torch"]
    assert [item[:2] for item in asked[1:]] == [(f"torch=={version}", ""), (f"torch=={version}+cpu", "")]
    assert asked[0][1] == "torch; python_version < '3'"
    assert (tmp_path / "common.txt").read_text() == "['numpy']"
    assert (tmp_path / "torch-cuda.txt").read_text() == (tmp_path / "torch-cpu.txt").read_text() == "['torch']"
