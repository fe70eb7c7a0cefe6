"""The model card's sentences that no table holds: networks, uses, meanings of figures, privacy, loading."""

from __future__ import annotations

from server.reports.metric_text import meanings
from shared.config.run_config import RunConfig
from shared.config.sections import EvaluationConfig, TaskName
from shared.modalities import modality_named
from shared.tasks import task_named

PHANTOM = (
    "**PHANTOM DATA: the images were made from equations. These figures describe the software; they are no evidence "
    "about patients.**"
)
NETWORKS: dict[TaskName, tuple[str, str, str]] = {
    "lesion-segmentation": (
        "3D ResU-Net (Wang 2025)",
        "the whole breast or patches of it",
        "probability of lesion, a voxel",
    ),
    "breast-segmentation": (
        "3D ResU-Net, two outputs (Xue and Wang 2021)",
        "the whole breast or patches of it",
        "probability of breast and of fibroglandular tissue, a voxel; density from both",
    ),
    "subtype-ensemble": (
        "three 2D ResNets and one 3D ResNet (Wang 2025)",
        "a box around an outlined lesion, and the outline",
        "probability of four molecular subtypes",
    ),
    "subtype-radiomics": (
        "linear model on radiomic features",
        "a box around an outlined lesion, and the outline",
        "probability of four molecular subtypes",
    ),
    "receptor-status": (
        "one 3D ResNet a receptor (Shiri 2025)",
        "a box around an outlined lesion, and the outline",
        "probability of ER, PR, HER2",
    ),
    "receptor-ki67-multitask": (
        "spatial multi-task network (after Zeng 2026)",
        "a box around an outlined lesion, one phase, and the outline",
        "probability of ER, PR, HER2; Ki-67 in percent",
    ),
    "lesion-malignancy": (
        "3D ResNet (Xue and Wang 2021)",
        "a box around an outlined lesion, and the outline",
        "probability that the lesion is malignant",
    ),
}
ARMS = {
    "federated": "one model, its weights averaged over the training centres",
    "local": "a centre's own model, mean over the training centres",
    "pooled": "one model on all training cases in one place: the ceiling, as no image may move",
    "ensemble": "mean of the local models' predictions",
}
_CHANGES = "mirroring, rotation, scale, gain, timing, noise, bias field, blur, each at random"
_MEANT = {
    "auc_": "Chance that a case of the class scores higher than one of another; 0.5 is a coin.",
    "brier_": "Mean squared error of the probability; 0 is ideal.",
    "log_loss_": "Mean negative logarithm of the probability given to the truth; 0 is ideal.",
    "calibration_slope_": "1 is ideal; below 1 the probabilities are too extreme.",
    "calibration_intercept_": "0 is ideal; above 0 the probabilities are too low.",
    "ece_": "Mean gap of probability and frequency over bins; 0 is ideal.",
    "sensitivity_": "Share of the class found, at the threshold frozen on validation cases.",
    "specificity_": "Share of the others left alone, at the threshold frozen on validation cases.",
    "ppv_": "Share of the class among those called so, at the threshold frozen on validation cases.",
    "npv_": "Share of others among those not called so, at the threshold frozen on validation cases.",
    "prevalence_": "Share of the class among the cases.",
    "mae_ki67": "Mean size of the error, percentage points.",
    "bias_ki67": "Mean of predicted minus measured, percentage points.",
}
INTENDED = """\
- **Meant for**: research on breast MRI with contrast agent: does one shared model hold in a centre that never trained?
- **Users**: researchers, with a radiologist who reads every outline.
- **Not meant for**: diagnosis, treatment, triage or any other use in care. It is not a medical device.
- **Not to be assumed**: that it holds for other modalities, exams without contrast agent, treated or operated breasts,
  implants, scanners unlike those under Factors, or screening (no false-alarm rate in healthy breasts follows).
- **Classifiers need an outline** of the lesion. Drawn by a reader, it is part of what was judged here."""
PRIVACY = """\
- No image and no table leaves a centre in a federation: weights, counts, histograms and sums do.
- Weights are not anonymous by nature: no differential privacy and no secure aggregation was applied. Whoever receives
  them should be bound as a recipient of derived patient data.
- A study is a simulation on one machine that sees every folder: it measures arms that hospitals could not all train.
- Cases carry pseudonyms only. This card has no row of a single patient.
- Ethical approval, consent and permission to use the data are the centres' own; the software cannot know them.
- Ancestry, income and the like are not recorded, so fairness towards such groups is unknown."""
CAVEATS = """\
- A held-out centre is one sample of centres; the prediction interval is about the next, where centres suffice.
- Arms see the same number of optimiser steps a site; a local model sees fewer cases, as it would.
- The round was chosen on validation cases of the training centres; figures on those cases are optimistic.
- The reference is one outline a case: disagreement between readers is not in these figures.
- Subgroup figures are many and small: p is adjusted (Benjamini and Hochberg), and none was the study's question.
- Judge it on local cases before any use, and again after a change of scanner or protocol."""

DATA = (
    "In each fold the held-out centre trains nothing; all others train on their split `train` and choose the round on "
    "`validation`. Cases without a task's labels are left out of that task alone."
)
LICENCE = (
    "Apache-2.0 for the software and for models trained on phantoms. Models trained on patients' images are bound by "
    "what the centres agreed on as well."
)
FIRST = (
    "The first of the table above; nothing in a `.safetensors` file can run. Input must be prepared by the fold's "
    "plan; a classifier's thresholds are in `thresholds.json` under the model's hash."
)
LOADING = """\
```python
# Run in the study's folder, with FedBreast installed.
from pathlib import Path

from safetensors.torch import load_file

from shared.config.run_config import load_config
from shared.reproducibility import state_hash
from shared.tasks import task_named

config = load_config(Path("study.toml")).leaving_out("{held_out}").for_task("{task}")
model = task_named("{task}").build_model(config)
state = load_file("{file}")
assert state_hash(state) == "{hash}"
model.load_state_dict(state)
model.eval()
```"""


def meaning(metric: str, config: EvaluationConfig) -> str:
    """What a figure is; empty for one that needs no more than its name."""
    own = (words for start, words in _MEANT.items() if metric.startswith(start))
    return next(own, meanings(config).get(metric, ""))


def training(config: RunConfig) -> list[tuple[str, str]]:
    """What a task's networks read and how they learn, from the configuration as the task sees it."""
    loop, own = config.training, config.classifier(config.task)
    pretrained = config.task == "subtype-ensemble" and config.subtype_ensemble.pretrained != "none"
    facts = [
        *modality_named(task_named(config.task).modality).settings(config).describe(),
        ("start", "2D ResNets pretrained on photographs, the rest random" if pretrained else "random, from the seed"),
        ("optimiser", f"AdamW, rate {loop.learning_rate:g} falling as a cosine, decay {loop.weight_decay:g}"),
        ("rounds", f"{config.federation.rounds} of {loop.steps_per_round} steps a site, batches of {loop.batch_size}"),
        ("averaging", f"{config.federation.strategy}, weighted by training cases"),
        ("augmentation", "none" if config.task == "subtype-radiomics" else _CHANGES),
        ("missing labels", "left out of the loss and of the figure they belong to; nothing is imputed"),
    ]
    if own is None:
        facts.append(
            ("network", f"feature maps {', '.join(map(str, config.model.channels))}; {config.model.norm} norm")
        )
        facts.append(("threshold", f"probability {config.inference.threshold:g} a voxel"))
    else:
        facts.append(("network", f"size '{own.size}', box of {' x '.join(map(str, own.patch.voxels))} voxels"))
        facts.append(("rare classes", f"'{own.balance}' at the site; no recalibration afterwards"))
        facts.append(("threshold", "Youden's on validation cases, frozen before the held-out centre was opened"))
    return facts
