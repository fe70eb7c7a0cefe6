"""Photographs the top of a page: `python docs/pictures/photograph.py runs/<run>/report.html`, for the README.

That of `fedbreast check --page check.html` has a name and a height of its own: `photograph.py check.html check 1250`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

WIDTH, HEIGHT = 1280, 900


def main(page: Path, name: str = "report", height: str = str(HEIGHT)) -> None:
    """Write `<name>.png` beside this script; needs Chromium."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("no Chromium on the PATH: install it, the page is photographed by a browser")
    picture = Path(__file__).with_name(f"{name}.png")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},{height}")
    subprocess.run([browser, *options, f"--screenshot={picture}", page.resolve().as_uri()], check=True)
    print(picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:4])
