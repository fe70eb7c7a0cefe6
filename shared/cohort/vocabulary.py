"""Words of a table and their values: each column has a closed vocabulary, and other words are refused.

A missing value is None; it never counts as negative or zero.
"""

from __future__ import annotations

import math
from typing import TypeVar

from shared.types import Side, Split

Value = TypeVar("Value")

MISSING = frozenset(
    {"", "na", "n/a", "nan", "null", "none", "unknown", "unk", "missing", "not available", "not done", "nd", ".", "?"}
)
_POSITIVE = ("pos", "positive", "p", "+", "(+)", "yes", "y", "1", "1.0", "true", "t")
_NEGATIVE = ("neg", "negative", "n", "-", "\u2212", "\u2013", "(-)", "no", "0", "0.0", "false", "f")  # minus, en dash
RECEPTOR: dict[str, bool] = {**dict.fromkeys(_POSITIVE, True), **dict.fromkeys(_NEGATIVE, False)}
FISH: dict[str, bool] = {
    **RECEPTOR,
    **dict.fromkeys(("amplified", "amp", "ish+"), True),
    **dict.fromkeys(("not amplified", "non amplified", "nonamplified", "ish-"), False),
}
MALIGNANT: dict[str, bool] = {
    **RECEPTOR,
    **dict.fromkeys(("malignant", "cancer", "m"), True),
    **dict.fromkeys(("benign", "b", "normal"), False),
}
SIDE: dict[str, Side] = {
    **dict.fromkeys(("left", "l", "lt", "links"), "left"),
    **dict.fromkeys(("right", "r", "rt", "rechts"), "right"),
}
MODALITY: dict[str, str] = {
    **dict.fromkeys(("mr", "mri", "dce mri", "dce"), "MR"),
    **dict.fromkeys(("mg", "mammography", "mammogram", "ffdm"), "MG"),
}
DENSITY: dict[str, str] = {
    **{form.format(letter): letter for letter in "abcd" for form in ("{}", "acr {}", "bi rads {}", "birads {}")},
    **{str(number): letter for number, letter in enumerate("abcd", start=1)},
}
SPLIT: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SUBTYPE: dict[str, str] = {
    **dict.fromkeys(("luminal a", "luma", "lum a", "luminala"), "luminal_a"),
    **dict.fromkeys(("luminal b", "lumb", "lum b", "luminalb", "luminal b her2", "luminal b her2+"), "luminal_b"),
    **dict.fromkeys(("luminal", "luminal like"), "luminal"),
    **dict.fromkeys(("her2 enriched", "her2", "her2+", "her2 pure", "her2 positive"), "her2_enriched"),
    **dict.fromkeys(("triple negative", "tnbc", "tn", "triple neg", "basal", "basal like"), "triple_negative"),
}


def is_missing(text: str) -> bool:
    """Say whether a cell means that the value is missing."""
    return text.casefold() in MISSING


def look_up(text: str, words: dict[str, Value]) -> Value:
    """Value of a word in any case, or `KeyError`; hyphens and underscores between letters count as blanks."""
    plain = " ".join(text.casefold().split())
    if plain in words:
        return words[plain]
    return words[" ".join(plain.replace("_", " ").replace("-", " ").split())]


def parse_number(text: str, *, decimal_comma: bool) -> float:
    """Finite number in a cell; with `decimal_comma`, `12,5` is 12.5.

    Other text is refused by `ValueError`, also separators of thousands, which are ambiguous.
    """
    plain = text.strip()
    if decimal_comma and plain.count(",") == 1 and "." not in plain:
        plain = plain.replace(",", ".")
    if "_" in plain:
        raise ValueError("underscores are no digits")
    value = float(plain)
    if not math.isfinite(value):
        raise ValueError("not finite")
    return value
