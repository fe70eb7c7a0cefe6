"""What both sides' commands print on a terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from shared.words import plain

console = Console()
errors = Console(stderr=True, soft_wrap=True, highlight=False)

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


def say(text: str, style: str | None = None) -> None:
    """Print a line without markup, control characters, or a break at the terminal's width."""
    console.print(plain(text, keep="\n"), style=style, soft_wrap=True, highlight=False, markup=False)


def say_event(event: str, facts: Mapping[str, Any]) -> None:
    """Print an event of the audit log as one line."""
    say(f"{time.strftime('%H:%M:%S')} {event} " + " ".join(f"{key}={value}" for key, value in facts.items()))
