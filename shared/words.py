"""The gate for words from outside: no character that controls a terminal, a log or the direction of the text.

Such are all that Unicode does not call printable: C0 and C1 controls (ESC among them), the marks that turn the
direction of text (U+202A to U+202E, U+2066 to U+2069), other invisible marks, line separators and lone surrogates.
"""

from __future__ import annotations

from typing import Any


def plain(text: str, keep: str = "") -> str:
    r"""A text with every such character, but those to `keep`, written as its escape: ESC becomes the text `\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() or sign in keep else sign.encode("unicode_escape").decode() for sign in text
    )


def plain_words(value: Any) -> Any:
    """An object of JSON with all its texts, keys too, as `plain` gives them."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain_words(name): plain_words(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = map(plain_words, value)
        return tuple(items) if isinstance(value, tuple) else list(items)
    return value


def refuse_controls(value: Any) -> Any:
    """Return a configured value as it is; `ValueError` where a text in it holds such a character."""
    if [plain_words(value)] != [value]:  # in a list, NaN equals itself
        raise ValueError("holds a character that cannot be seen (a control, an escape, a mark of direction): remove it")
    return value
