"""The training of each task, found by the table of tasks."""

import importlib

from keras_transformer.errors import no_such
from keras_transformer.pipelines.tasks import TASKS, find_task
from keras_transformer.training.run.run_directory import RunDirectory
from keras_transformer.training.tasks.task import TaskTraining


def find_training(name: str) -> type[TaskTraining]:
    """Return what trains a task.

    Raises:
        InputError: If there is no such task, or it is not trained here.
    """
    path = find_task(name).training
    if path is None:
        raise no_such("training for", name, (t.name for t in TASKS.values() if t.training))
    module, _, of = path.partition(":")
    training: type[TaskTraining] = getattr(importlib.import_module(module), of)
    return training


def training_of(run: RunDirectory) -> TaskTraining:
    """Return what trains a run.

    Raises:
        InputError: If something of it is missing or damaged.
    """
    settings = run.task_settings()
    tokenizer = run.tokenizer() if find_task(settings.task).has_text else None
    return find_training(settings.task)(
        run.model_config(), settings, run.training_config(), tokenizer
    )
