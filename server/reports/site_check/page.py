"""The page of `fedbreast check`: one self-contained HTML file, for the data manager to look at and to pass on.

It names rows by number. Which patient a row is stands in a file of the site's cache, and nowhere here.
"""

from __future__ import annotations

from pathlib import Path

from server.reports.site_check.thumbnails import thumbnail
from server.reports.templates import environment
from shared.atomic_files import replace_file
from shared.site_check.reasons import explanation, remedy
from shared.site_check.site_report import SiteReport, ranges


def write_page(report: SiteReport, path: Path) -> None:
    """Write the page; raises `RunError` where it cannot be written."""
    pages = environment()
    pages.filters["ranges"] = ranges
    content = {
        "report": report,
        "usable": len(report.cases) - len(report.left_out),
        "reasons": [(reason, explanation(reason), remedy(reason), own) for reason, own in report.by_reason().items()],
        # What is to be looked at first comes first.
        "cases": sorted(report.cases, key=lambda case: (case.usable, not case.seen.notes, case.row)),
        "splits": sorted({split for item in report.table.support for split in item.splits}),
        "explanation": explanation,
        "remedy": remedy,
        "thumbnail": thumbnail,
    }
    text = pages.get_template("site_check.html").render(content)
    replace_file(path, text.encode(), str(path.parent))
