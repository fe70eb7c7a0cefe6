"""The table of tasks: to add one, write its file and name it here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from shared.errors import ConfigError

if TYPE_CHECKING:
    from shared.tasks.task import Task

TASKS = {
    "lesion-segmentation": "shared.tasks.lesion_segmentation",
    "breast-segmentation": "shared.tasks.breast_segmentation",
    "subtype-ensemble": "shared.tasks.subtype_ensemble",
    "subtype-ensemble-network": "shared.tasks.subtype_ensemble",
    "subtype-radiomics": "shared.tasks.subtype_radiomics",
    "receptor-status": "shared.tasks.receptor_status",
    "receptor-status-network": "shared.tasks.receptor_status",
    "receptor-ki67-multitask": "shared.tasks.receptor_ki67_multitask",
    "receptor-ki67-multitask-network": "shared.tasks.receptor_ki67_multitask",
    "lesion-malignancy": "shared.tasks.lesion_malignancy",
    "lesion-malignancy-network": "shared.tasks.lesion_malignancy",
    "mammography-luminal": "shared.tasks.mammography",
    "mammography-her2": "shared.tasks.mammography",
    "mammography-triple-negative": "shared.tasks.mammography",
    "mammography-subtype": "shared.tasks.mammography",
    "mammography-malignancy": "shared.tasks.mammography",
    "mammography-density": "shared.tasks.mammography",
    "mammography-luminal-cnn": "shared.tasks.mammography_rivals",
    "mammography-luminal-radiomics": "shared.tasks.mammography_rivals",
    "mammography-her2-cnn": "shared.tasks.mammography_rivals",
    "mammography-her2-radiomics": "shared.tasks.mammography_rivals",
    "mammography-triple-negative-cnn": "shared.tasks.mammography_rivals",
    "mammography-triple-negative-radiomics": "shared.tasks.mammography_rivals",
    "mammography-subtype-cnn": "shared.tasks.mammography_rivals",
    "mammography-subtype-radiomics": "shared.tasks.mammography_rivals",
    "mammography-malignancy-cnn": "shared.tasks.mammography_rivals",
    "mammography-malignancy-radiomics": "shared.tasks.mammography_rivals",
    "mammography-density-cnn": "shared.tasks.mammography_rivals",
    "mammography-density-radiomics": "shared.tasks.mammography_rivals",
}
"""Module of each task by the name that configurations use; it holds it as `TASK`, or several by name in `TASKS`."""


def task_named(name: str) -> Task:
    """Return a task by the name that configurations use.

    Raises
    ------
    ConfigError
        There is no such task.

    """
    if name not in TASKS:
        raise ConfigError(f"there is no task '{name}'; there are {', '.join(TASKS)}")
    # Each where it is asked for: MONAI, which the classifiers need, takes seconds to import.
    try:
        module = import_module(TASKS[name])
        task: Task = module.TASKS[name] if hasattr(module, "TASKS") else module.TASK
    except (ModuleNotFoundError, AttributeError, KeyError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name != TASKS[name]:
            raise  # a library that its module needs
        raise ConfigError(
            f"task '{name}': no TASK is in {TASKS[name]}, which TASKS in shared/tasks/__init__.py names: mend the line"
        ) from error
    return task
