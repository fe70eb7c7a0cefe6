"""Vector files beside a page: bytes that repeat, fonts within, the page's own drawing unchanged."""

import os
import subprocess
import sys

from server.reports.figures import vector_files
from server.reports.study.forest import Line, forest_plot

DRAWING = """
import sys
from pathlib import Path
from server.reports.figures import vector_files
from server.reports.study.forest import Line, forest_plot
with vector_files.kept_in(Path(sys.argv[1]), "PHANTOM"):
    forest_plot([Line("a", "1", 1.0, 0.0, 2.0), Line("b", kind="heading")], label="x", name="n", description="d")
"""


def test_vector_files_have_the_same_bytes_in_another_process_and_hold_their_fonts(tmp_path):
    found = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        command = [sys.executable, "-c", DRAWING, str(folder)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."})
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert found[0] == found[1]
    assert set(found[0]) == {"n.svg", "n.pdf"}
    assert b"/FontFile2" in found[0]["n.pdf"]
    assert b"<text" not in found[0]["n.svg"]  # outlines: no reader needs the font


def test_outside_a_place_nothing_is_kept_and_inside_the_page_s_drawing_is_the_same(tmp_path):
    line = [Line("a", "1", 1.0, 0.0, 2.0)]
    alone = forest_plot(line, label="x", name="n", description="d")
    with vector_files.kept_in(tmp_path / "kept", "STAMP"):
        kept = forest_plot(line, label="x", name="n", description="d")
    assert alone == kept
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["n.pdf", "n.svg"]
