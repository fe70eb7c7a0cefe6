"""CLAIM 2024, item by item: number, what it asks, and where a study's report answers (format: `checklists.Item`)."""

CLAIM: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Title and abstract": (
        (
            "1",
            "say that it is a study of AI, and of which kind",
            "design: tasks and networks, trained in a federation; authors: the title",
        ),
        (
            "2",
            "summarise design, methods, results and conclusion",
            "design, forest: the figures of an abstract; authors: the abstract and its conclusion",
        ),
    ),
    "Introduction": (
        (
            "3",
            "background, intended use and role of the model",
            "model-card: intended and excluded use; authors: clinical need and earlier work",
        ),
        (
            "4",
            "aims and hypotheses",
            "design: the comparison and its primary figure; authors: aims and hypotheses, written before the data",
        ),
    ),
    "Methods: design": (
        (
            "5",
            "prospective or retrospective",
            "design: every exam existed before training; authors: whether it was collected for this study",
        ),
        ("6", "goal of the study", "design: does a model hold in a centre that never trained, and does sharing help"),
    ),
    "Methods: data": (
        (
            "7",
            "where the data come from",
            "table-1, provenance: centres, cases, hash of each table; authors: hospitals, dates, setting, permission",
        ),
        (
            "8",
            "who was eligible",
            "flow: cases taken in and left out by reason; authors: clinical criteria by which patients were chosen",
        ),
        ("9", "preprocessing", "model-card: grid, phases, bias field, augmentation"),
        ("10", "parts of the data that were selected", "model-card: what of an exam a network reads"),
        (
            "11",
            "de-identification",
            "model-card: only pseudonyms reach the report; authors: what each centre removed, and how",
        ),
        ("12", "missing data", "table-1, model-card: unknowns are counted, nothing is imputed"),
        (
            "13",
            "image acquisition",
            "table-1: manufacturer, field strength, orientation; authors: sequences, contrast agent, timing",
        ),
    ),
    "Methods: reference standard": (
        ("14", "how the reference was obtained", "authors: outlines, pathology, receptor assays and cut-offs"),
        ("15", "why this reference", "authors: reason for the choice, and its flaws"),
        ("16", "who annotated", "authors: readers, their experience and training, tools"),
        ("17", "annotation of the test cases", "authors: whether held-out and test cases were read differently"),
        ("18", "variability between and within readers", "authors: second readings; here one outline per case"),
    ),
    "Methods: partitions": (
        (
            "19",
            "how cases were assigned to partitions",
            "design, flow: one centre held out a fold; the others split by seeded shares",
        ),
        ("20", "level at which partitions are disjoint", "design: whole centres across folds, patients within one"),
    ),
    "Methods: testing data": (("21", "intended sample size", "authors: how it was set; the report states what came"),),
    "Methods: model": (
        (
            "22",
            "the model in full",
            "model-card: networks, inputs, outputs, hashes; authors: a citation of the code for every layer",
        ),
        ("23", "software and versions", "provenance: versions and commit"),
        ("24", "initial weights", "model-card: drawn from a seed, or pretrained, a task each"),
    ),
    "Methods: training": (
        ("25", "how the model was trained", "model-card, learning: rounds, steps, optimiser; the course of training"),
        ("26", "how the final model was selected", "learning: round chosen on the training centres' validation cases"),
        ("27", "ensembles", "design: the arm `ensemble` is the mean of the local models' predictions"),
    ),
    "Methods: evaluation": (
        ("28", "metrics of performance", "model-card: each figure with its meaning and unit"),
        (
            "29",
            "significance and uncertainty",
            "forest: patient bootstrap, prediction interval over centres, p adjusted for many comparisons",
        ),
        (
            "30",
            "robustness and sensitivity",
            "matrix, subgroups: centre by centre, by scanner and by patient; authors: changed inputs, changed choices",
        ),
        ("31", "explanations of the model", "authors: this report has none; a single run's own report has saliency"),
        ("32", "evaluation on internal data", "matrix: test cases of the centres that trained"),
        ("33", "testing on external data", "forest: each centre in turn, opened once after its fold's models stood"),
        ("34", "registration as a clinical trial", "authors: register and number, or that there is none"),
    ),
    "Results: data": (
        ("35", "numbers taken in and left out", "flow: by centre, with every reason"),
        (
            "36",
            "characteristics in each partition",
            "table-1: by centre; authors: by split, and what the centres' tables do not hold",
        ),
    ),
    "Results: performance": (
        ("37", "performance on every partition, with uncertainty", "forest, matrix, learning: intervals with n"),
        ("38", "diagnostic performance and its precision", "forest, roc, agreement: estimates with intervals"),
        (
            "39",
            "analysis of failures",
            "cases: the worst case of every centre and the count of failures; authors: their causes",
        ),
    ),
    "Discussion": (
        ("40", "limitations", "limits: those the software knows; authors: those of this cohort and its reference"),
        ("41", "what follows for practice", "model-card: intended and excluded use; authors: the clinical role"),
    ),
    "Other information": (
        (
            "42",
            "full protocol or further technical detail",
            "provenance: the resolved configuration; authors: where the protocol stands, or that there is none",
        ),
        (
            "43",
            "availability of software, model and data",
            "provenance, model-card: commit, licence, models by hash; authors: where models and data can be had",
        ),
        ("44", "funding and the funders' role", "authors: funding"),
    ),
}
