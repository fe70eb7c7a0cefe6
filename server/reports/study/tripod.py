"""TRIPOD+AI, part by part: number, what it asks, and where a study's report answers (format: `checklists.Item`)."""

TRIPOD_AI: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Title and abstract": (
        ("1", "name development or evaluation, population and outcome", "design: both, by task; authors: the title"),
        (
            "2",
            "abstract by the guideline's own list",
            "design, forest: the figures of an abstract; authors: the abstract",
        ),
    ),
    "Introduction": (
        ("3a", "health context, rationale, existing models", "authors: clinical need and earlier models"),
        (
            "3b",
            "population, purpose and users in the care pathway",
            "model-card: intended and excluded use; authors: population and place in care",
        ),
        ("3c", "known health inequalities", "authors: inequalities in the population meant"),
        ("4", "objectives: development, evaluation or both", "design: both, centre by centre"),
    ),
    "Methods: data and participants": (
        (
            "5a",
            "sources of development and evaluation data",
            "design, table-1: centres of each fold; authors: kind of source, why it, how representative",
        ),
        ("5b", "dates", "authors: first and last exam of each centre; the report holds no dates of patients"),
        ("6a", "setting, number and place of centres", "table-1: number of centres; authors: setting and place"),
        ("6b", "eligibility", "flow: reasons for leaving a case out; authors: clinical criteria"),
        ("6c", "treatments", "authors: treatment before the exam"),
        ("7", "preparation and quality checks", "flow, model-card: the same software at every centre"),
        ("8a", "the outcome, when and how assessed", "authors: definition of outlines and of pathology"),
        ("8b", "who assessed the outcome", "authors: readers and pathologists"),
        ("8c", "blinding of the outcome", "authors: whether readers knew of the model or of pathology"),
        ("9a", "choice of predictors", "model-card: the images alone, and the outline where a classifier reads it"),
        (
            "9b",
            "definition and measurement of predictors",
            "model-card: phases and grid; authors: acquisition, and whether it was blind to the outcome",
        ),
        ("9c", "who measured predictors that need judgement", "authors: readers of the outlines that classifiers read"),
        ("10", "sample size", "flow: numbers; authors: how they were reached and why they suffice"),
        ("11", "missing data", "flow, model-card: what is left out and why; nothing is imputed"),
    ),
    "Methods: analysis": (
        ("12a", "how data were used and partitioned", "design, flow: folds by centre, splits by patient"),
        ("12b", "how predictors were handled", "model-card: scaling, resampling, augmentation"),
        (
            "12c",
            "model, building steps, tuning, internal validation",
            "model-card, learning: networks, training, choice of round; authors: why these settings",
        ),
        ("12d", "heterogeneity between centres", "forest: random effects, with tau, I2 and a prediction interval"),
        ("12e", "measures of performance and of comparison", "forest, roc, agreement, model-card: each with its unit"),
        ("12f", "model updating after evaluation", "design: none; thresholds were frozen before a centre was opened"),
        ("12g", "how predictions were computed", "model-card, provenance: code, commit, configuration, models by hash"),
        ("13", "class imbalance", "model-card: what a site does about rare classes; recalibration: none"),
        (
            "14",
            "fairness",
            "subgroups: performance by age, density, scanner and size, gains beside; authors: rationale, other groups",
        ),
        (
            "15",
            "output and thresholds",
            "model-card, roc: probabilities, masks; thresholds from validation cases, frozen; authors: clinical reason",
        ),
        (
            "16",
            "differences between development and evaluation data",
            "table-1, matrix: centre beside centre; authors: differences in setting and in outcome",
        ),
        ("17", "ethical approval and consent", "authors: committee of every centre, consent or waiver"),
    ),
    "Open science": (
        ("18a", "funding", "authors: funding and the funders' role"),
        ("18b", "conflicts of interest", "authors: declarations"),
        ("18c", "protocol", "authors: where it stands, or that there is none"),
        ("18d", "registration", "authors: register and number, or that there is none"),
        ("18e", "data sharing", "provenance: hash of each centre's table; authors: whether and how data can be had"),
        ("18f", "code sharing", "provenance, model-card: commit and licence; authors: public address"),
    ),
    "Patient and public involvement": (("19", "involvement of patients", "authors: involvement, or that none was"),),
    "Results": (
        (
            "20a",
            "flow of participants, with and without the outcome",
            "flow, table-1: by centre and reason; authors: patients before they reached a centre's table",
        ),
        (
            "20b",
            "characteristics, by source",
            "table-1: by centre, with what is unknown; authors: dates, treatment, ancestry",
        ),
        ("20c", "evaluation beside development data", "table-1: every centre is in turn one and the other"),
        ("21", "participants and events in each analysis", "flow, table-1, forest: n beside every figure"),
        ("22", "the model itself, for use by others", "model-card: how to load it; authors: where it can be had"),
        ("23a", "performance with intervals, also in subgroups", "forest, roc, agreement, subgroups: intervals and n"),
        ("23b", "heterogeneity of performance", "forest, matrix: by centre, with a prediction interval"),
        ("24", "results of updating", "design: nothing was updated"),
    ),
    "Discussion": (
        ("25", "interpretation, fairness included", "authors: meaning beside earlier studies"),
        ("26", "limitations", "limits: those the software knows; authors: those of this cohort, and their effect"),
        (
            "27a",
            "poor or missing input in use",
            "model-card: unsound exams are refused with a reason; authors: what care does then",
        ),
        ("27b", "what users must do and know", "model-card: who outlines, who runs it; authors: training of users"),
        ("27c", "next steps, applicability", "authors: further studies"),
    ),
}
