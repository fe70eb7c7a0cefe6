"""A row of results and the marks of a figure: what the tests of figures share."""

import re

import numpy as np

from server.run_folder.results import ResultRow


def row(value, low=None, high=None, metric="dice"):
    return ResultRow(
        task="t", arm="federated", seed=0, centre="d", role="external", metric=metric, unit="1",
        value=value, ci_low=low, ci_high=high, n=4, model_hash="h",
    )  # fmt: skip


def marks(svg, colour):
    """Positions of scatter marks of one colour, SVG units."""
    found = re.findall(rf'<use href="#[^"]*" x="([\d.-]+)" y="([\d.-]+)" style="[^"]*(?:fill|stroke): {colour}', svg)
    return np.array(found, float)
