"""Words of a table and their values: each column has a closed vocabulary, and other words are refused.

A missing value is None; it never counts as negative or zero.
"""

from __future__ import annotations

import math
import re
from typing import TypeVar

from shared.types import Side, Split

Value = TypeVar("Value")

MISSING = frozenset(
    {
        *("", "na", "n/a", "n.a.", "nan", "<na>", "null", "none", "nil", "unknown", "unk", "not known", "missing"),
        *("not available", "not done", "not tested", "not performed", "nd", "n.d.", "pending", ".", "..", "?", "#n/a"),
        *("#nv", "unbekannt", "k.a.", "keine angabe", "inconnu", "desconocido", "sconosciuto", "onbekend"),
    }
)
_POSITIVE = (
    *(
        "pos",
        "positive",
        "p",
        "+",
        "(+)",
        "yes",
        "y",
        "1",
        "1.0",
        "true",
        "t",
        "pos.",
        "positiv",
        "positif",
        "positiva",
    ),
    *("positivo", "positief", "positivt", "pozitivní", "pozitif", "dodatni", "ja", "oui", "sí", "sì", "wahr", "vrai"),
)
_NEGATIVE = (
    *("neg", "negative", "n", "-", "\u2212", "\u2010", "\u2011", "\u2013", "\u2014", "(-)", "no", "0", "0.0", "false"),
    *("f", "neg.", "negativ", "négatif", "negatif", "negativa", "negativo", "negatief", "negativt", "negativní"),
    *("ujemny", "nein", "non", "nej", "nee", "falsch", "faux"),
)
RECEPTOR: dict[str, bool] = {**dict.fromkeys(_POSITIVE, True), **dict.fromkeys(_NEGATIVE, False)}
FISH: dict[str, bool] = {
    **RECEPTOR,
    **dict.fromkeys(("amplified", "amp", "ish+"), True),
    **dict.fromkeys(("not amplified", "non amplified", "nonamplified", "ish-"), False),
}
MALIGNANT: dict[str, bool] = {
    **RECEPTOR,
    **dict.fromkeys(("malignant", "cancer", "m", "maligne", "maligno", "maligna", "bösartig"), True),
    **dict.fromkeys(("benign", "b", "normal", "bénin", "benigne", "benigno", "benigna", "gutartig"), False),
}
SIDE: dict[str, Side] = {
    **dict.fromkeys(
        ("left", "l", "lt", "left breast", "links", "li", "gauche", "izquierda", "esquerda", "sinistra", "sx"), "left"
    ),
    **dict.fromkeys(
        ("right", "r", "rt", "right breast", "rechts", "re", "droite", "derecha", "direita", "destra", "dx"), "right"
    ),
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
    **dict.fromkeys(
        ("luminal b", "lumb", "lum b", "luminalb", "luminal b her2", "luminal b her2+", "luminal b her2-"), "luminal_b"
    ),
    **dict.fromkeys(("luminal", "luminal like"), "luminal"),
    **dict.fromkeys(("her2 enriched", "her2", "her2+", "her2 pure", "her2 positive"), "her2_enriched"),
    **dict.fromkeys(("triple negative", "tnbc", "tn", "triple neg", "basal", "basal like"), "triple_negative"),
}


SYNONYMS: dict[str, str] = {
    **dict.fromkeys(
        ("id", "pid", "mrn", "patient", "subject", "subject_id", "case_id", "patientennummer"), "patient_id"
    ),
    **dict.fromkeys(("laterality", "breast", "breast_side", "seite", "lado", "cote", "left_right"), "side"),
    **dict.fromkeys(("study", "study_uid", "study_date", "exam_date", "accession", "accession_number", "date"), "exam"),
    **dict.fromkeys(("study_instance_uid", "studyinstanceuid", "visit", "timepoint", "datum", "exam_id"), "exam"),
    **dict.fromkeys(("folder", "directory", "dicom", "image", "images", "image_path", "file", "ordner"), "path"),
    **dict.fromkeys(("segmentation", "seg", "roi", "annotation", "outline", "contour", "label_map", "lesion"), "mask"),
    **dict.fromkeys(("estrogen", "oestrogen", "estrogen_receptor", "oestrogen_receptor", "esr1", "ostrogen"), "er"),
    **dict.fromkeys(("progesterone", "progesterone_receptor", "pgr", "progesteron"), "pr"),
    **dict.fromkeys(("her2neu", "erbb2", "cerbb2", "her_2_neu"), "her2"),
    **dict.fromkeys(("fish", "ish", "sish", "cish", "her2_ish"), "her2_fish"),
    **dict.fromkeys(("mib1", "ki", "proliferation"), "ki67_percent"),
    **dict.fromkeys(("molecular_subtype", "mol_subtype", "phenotype", "intrinsic", "molecular"), "subtype"),
    **dict.fromkeys(
        ("diagnosis", "pathology", "malignancy", "cancer", "benign", "class", "classification"), "malignant"
    ),
    **dict.fromkeys(("alter", "patient_age", "edad", "eta"), "age"),
    **dict.fromkeys(("acr", "birads_density", "breast_density", "bi_rads_density"), "density"),
    **dict.fromkeys(("vendor", "scanner", "hersteller"), "manufacturer"),
    **dict.fromkeys(("tesla", "field", "field_strength", "magnetic_field_strength"), "field_strength_t"),
    **dict.fromkeys(("fold", "set", "partition", "subset", "dataset_split"), "split"),
    **dict.fromkeys(("times", "phase_times", "trigger_times"), "acquisition_times"),
}
"""Other names of columns, which are proposed and never read."""


def is_missing(text: str) -> bool:
    """Say whether a cell means that the value is missing."""
    return text.casefold() in MISSING


def look_up(text: str, words: dict[str, Value]) -> Value:
    """Value of a word in any case, or `KeyError`; hyphens and underscores between letters count as blanks."""
    plain = " ".join(text.casefold().split())
    if plain in words:
        return words[plain]
    # Not the last sign: `HER2-` is the contrary of `HER2`.
    return words[" ".join(re.sub(r"(?<=\w)[_-]+(?=\w)|_", " ", plain).split())]


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
