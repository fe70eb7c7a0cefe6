"""A phantom site with cases damaged in each of a few ways, and what `fedbreast check` says of it."""

import csv
import shutil

import pytest

from shared.site_check.site_report import check_site


class Damaged:
    """A copy of a phantom centre; `table` changes its rows."""

    def __init__(self, folder):
        self.folder = folder

    def table(self, change):
        path = self.folder / "cases.csv"
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        change(rows)
        names = list(dict.fromkeys(name for row in rows for name in row))
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, names, restval="")
            writer.writeheader()
            writer.writerows(rows)
        return rows

    def check(self):
        return check_site(self.folder, lambda *_: None)


def damage(site):
    """Row 2 has the other side, row 3 no mask's file, row 4 a slice cut short; rows 5 and 6 are sound."""

    def change(rows):
        rows[0]["side"] = {"left": "right", "right": "left"}[rows[0]["side"]]
        rows[1]["mask"] = "masks/gone.dcm"
        broken = sorted((site.folder / rows[2]["path"]).rglob("IM*"))[5]
        broken.write_bytes(broken.read_bytes()[:300])

    site.table(change)
    return site


@pytest.fixture
def damaged(phantom_root, tmp_path, monkeypatch):
    shutil.copytree(phantom_root / "centre-a", tmp_path / "centre-a")
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FEDBREAST_HOME", str(tmp_path / "home"))
    return damage(Damaged(tmp_path / "centre-a"))
