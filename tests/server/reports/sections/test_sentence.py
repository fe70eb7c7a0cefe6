"""The opening sentences: a leak is named, a case is one, what cannot be said is said."""

from server.reports.sections.sentence import no_sentence, sentence
from tests.server.reports.invented_classifiers import (
    MALIGNANCY,
    RECEPTORS,
    cases,
    evaluated,
    external,
    finished,
    internal,
    receptors,
)


def test_more_than_what_is_possible_is_called_a_leak():
    table = receptors()
    text = sentence(evaluated(table, external(table, RECEPTORS, {"er": 0.2, "her2": 0.99}), RECEPTORS))
    assert "The best possible AUC on these phantoms is 0.200 for ER (no more than this) and 0.990 for HER2 (" in text
    assert "More than what is possible is a leak until shown otherwise." in text
    assert "leak" not in sentence(evaluated(table, external(table, RECEPTORS, {"er": 0.99}), RECEPTORS))


def test_a_single_case_is_one_case_and_its_auc_undefined():
    table = cases({"truth_malignant": [1], "score_malignant": [0.4]})
    text = sentence(evaluated(table, external(table, MALIGNANCY), MALIGNANCY, phantom=False))
    assert text == (
        "On 1 case of centre-d, which never trained, the AUC is undefined (n = 1) in the reference outline. "
        "Nothing was read end to end, in predicted outlines."
    )


def test_nothing_evaluated_is_said_with_its_reason():
    assert no_sentence(finished(None, internal(), centre=None)).startswith("No external centre evaluated it")
    assert no_sentence(finished(None, internal())).startswith("No case of centre-d has the reference or a label")
