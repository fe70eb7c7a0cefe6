"""Fixtures of toy federations that change a site's tables."""

import csv
import shutil

import pytest


@pytest.fixture
def relabelled(tmp_path, phantom_root):
    """Copies of the sites whose tables a test may rewrite; images are linked."""

    def rewrite(site, change):
        root = tmp_path / "sites"
        if not root.exists():
            root.mkdir()
            for folder in phantom_root.iterdir():
                if folder.is_dir():
                    shutil.copytree(
                        folder, root / folder.name, copy_function=lambda a, b: (shutil.copy(a, b), b)[1], symlinks=True
                    )
        table = root / site / "cases.csv"
        with table.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        rows = [row | change for row in rows]
        with table.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return root

    return rewrite
