"""The run directory: everything that a training run leaves behind, in one folder.

    config.json          the task, the model's configuration and the training's
    vocab.txt            the pieces in the order of their ids; other tokenisers have other files
    data.json            what was counted in the text, to be counted again only if it changes
    initial.weights.h5   what training begins with, if another run was asked for them
    best.weights.h5      the weights with the lowest validation loss
    checkpoints/         the newest state, to go on from: weights, optimizer, position
    text/                both halves of the text, if --valid-split took it apart
    samples.txt          a few source sentences, for sample translations and for export
    metrics.jsonl        one JSON object a line, for machines
    tensorboard/         the same for people

`translate`, `evaluate` and `export` take this folder and nothing else.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Self

from keras_transformer._backend import keras
from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.errors import InputError
from keras_transformer.files import replacing, write_json
from keras_transformer.locks import locked
from keras_transformer.models.config import StackConfig
from keras_transformer.models.families import config_from_dict
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.pipelines.servable import Servable
from keras_transformer.pipelines.tasks import TaskSettings, find_task, make_model, make_servable
from keras_transformer.text import Tokenizer, load_tokenizer, save_tokenizer
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.data.validation_split import FOLDER, with_halves
from keras_transformer.training.run.checkpoints import Checkpoints, save_weights

FORMAT = 1


class RunDirectory:
    """One run on disk; make it by `create` or `open`.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config_path = self.path / "config.json"
        self.vocabulary_path = self.path / "vocab.txt"
        self.sizes_path = self.path / "data.json"
        self.text_path = self.path / FOLDER
        self.initial_path = self.path / "initial.weights.h5"
        self.best_path = self.path / "best.weights.h5"
        self.samples_path = self.path / "samples.txt"
        self.metrics_path = self.path / "metrics.jsonl"
        self.tensorboard_path = self.path / "tensorboard"
        self.checkpoints = Checkpoints(self.path / "checkpoints")

    @staticmethod
    def check_free(path: Path | str, overwrite: bool = False) -> None:
        """Make sure that a new run may be written to `path`.

        Raises:
            InputError: If something is there already, and it is not a run that may be overwritten,
                or another process writes it.
        """
        path = Path(path)
        if path.is_dir() and not any(path.iterdir()):
            return
        if not path.exists():
            return
        if not (path / "config.json").is_file():
            raise InputError(f"{path} exists and is not a run; choose another output folder.")
        if not overwrite:
            raise InputError(
                f"{path} holds a run already. Go on with it by --resume {path}, replace it by "
                "--overwrite, or choose another output folder."
            )
        with locked(path, "looking at it"):
            pass  # nobody is training it

    @classmethod
    def create(
        cls,
        path: Path | str,
        model: StackConfig,
        training: TrainingConfig | None,
        tokenizer: Tokenizer | None,
        samples: list[str],
        overwrite: bool = False,
        sizes: dict[str, Any] | None = None,
        settings: TaskSettings | None = None,
        weights: keras.Model | None = None,
        initial: keras.Model | None = None,
        text: Path | None = None,
    ) -> Self:
        """Write a new run that has not been trained yet.

        Args:
            path: The folder to make.
            model: Configuration of the model.
            training: Configuration of the training; None for a model that was trained elsewhere.
            tokenizer: The run's from now on; None for a model of images.
            samples: A few source sentences.
            overwrite: Whether a run that is there may be replaced.
            sizes: What was counted in the text, from `corpus_size.remember`, by name.
            settings: What the model is for; translation if None.
            weights: A trained model, whose weights are the run's best; None if it is not trained.
            initial: A model whose weights training begins with; None for chance.
            text: Folder with both halves of the text, which is moved; None if they are elsewhere.

        Raises:
            InputError: If the folder is not free.
        """
        cls.check_free(path, overwrite)
        with locked(path, "writing a new run"), replacing(Path(path)) as new:
            run = cls(new)
            new.mkdir()
            run.save_config(model, training, settings)
            if tokenizer is not None:
                save_tokenizer(tokenizer, new)
            if weights is not None:
                run.save_best(weights)
            if initial is not None:
                save_weights(initial, run.initial_path)
            if text is not None:
                text.rename(run.text_path)
            run.samples_path.write_text("".join(f"{line}\n" for line in samples), "utf-8")
            if sizes:
                run.save_sizes(sizes)
        return cls(path)

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a run that is there.

        Raises:
            InputError: If `path` is not a run.
        """
        run = cls(path)
        if not run.path.is_dir():
            raise InputError(f"There is no folder {path}.")
        if not run.config_path.is_file():
            raise InputError(
                f"{path} is not a run: it has no config.json. Runs are made by "
                "keras-transformer train --output."
            )
        return run

    def save_config(
        self,
        model: StackConfig,
        training: TrainingConfig | None,
        settings: TaskSettings | None = None,
    ) -> None:
        """Write the configurations."""
        fields = {
            "format": FORMAT,
            **(settings or TaskSettings()).to_dict(),
            "model": model.to_dict(),
            "training": None if training is None else training.to_dict(),
        }
        write_json(self.config_path, fields)

    def _config(self) -> dict[str, Any]:
        try:
            fields = json.loads(self.config_path.read_text("utf-8"))
            version, model, training = fields["format"], fields["model"], fields["training"]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.config_path} is damaged: {error!r}.") from None
        if version != FORMAT:
            raise InputError(
                f"{self.config_path} has format {version}, but this version reads format {FORMAT}."
            )
        names = {field.name for field in dataclasses.fields(TaskSettings)}
        settings = {name: value for name, value in fields.items() if name in names}
        return {"model": model, "training": training, "settings": settings}

    def model_config(self) -> StackConfig:
        """Read the model's configuration."""
        fields = self._config()["model"]
        try:
            return config_from_dict(fields)
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{self.config_path}: {error}") from None

    def task_settings(self) -> TaskSettings:
        """Read what the model is for."""
        fields = self._config()["settings"]
        try:
            return TaskSettings(**fields)
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.config_path}: {error}") from None

    def training_config(self) -> TrainingConfig:
        """Read the training's configuration, which names what is trained and validated on.

        Raises:
            InputError: If it is damaged, or the model was imported and not trained here.
        """
        fields = self._config()["training"]
        if fields is None:
            raise InputError(f"{self.path} was imported, and has no training to go on with.")
        config = self._training_config(fields)
        return with_halves(config, self.text_path) if config.valid_split else config

    def _training_config(self, fields: dict[str, Any]) -> TrainingConfig:
        try:
            return TrainingConfig(**fields)
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.config_path}: {error}") from None

    @property
    def was_trained_here(self) -> bool:
        """True if the run has a training, and was not imported."""
        return self._config()["training"] is not None

    def tokenizer(self) -> Tokenizer:
        """Load the tokeniser.

        Raises:
            InputError: If it is missing, damaged, or not the one that the model was made for, or
                the model takes no text.
        """
        task = find_task(self.task_settings().task)
        if not task.has_text:
            raise InputError(f"{self.path} is for {task.name}, and has no tokeniser.")
        try:
            tokenizer = load_tokenizer(self.path)
        except (OSError, ValueError) as error:
            raise InputError(f"The run's vocabulary can't be read: {error}") from None
        expected = self.model_config().vocabulary_size
        # Published tables are rounded up to sizes that processors like.
        began_here = self.was_trained_here and not self.initial_path.is_file()
        fits = len(tokenizer) == expected or (len(tokenizer) < expected and not began_here)
        if not fits:
            raise InputError(
                f"{self.path / tokenizer.file} has {len(tokenizer):,} pieces, but the model's "
                f"weights are for {expected:,}. Put the vocabulary back that the run was trained "
                "with."
            )
        return tokenizer

    def samples(self) -> list[str]:
        """Read the sample sentences."""
        text = self.samples_path.read_text("utf-8") if self.samples_path.is_file() else ""
        return text.removesuffix("\n").split("\n") if text else []

    def sizes(self) -> dict[str, Any]:
        """Read what was counted in the text, by name; nothing if it can't be read."""
        try:
            sizes = json.loads(self.sizes_path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return sizes if isinstance(sizes, dict) else {}

    def save_sizes(self, sizes: dict[str, Any]) -> None:
        """Write what was counted in the text."""
        write_json(self.sizes_path, sizes)

    def load_model(self) -> ConfiguredModel:
        """Build the model and load its best weights, or the newest if none were validated.

        Raises:
            InputError: If the run has no weights, or they do not fit.
        """
        config = self.model_config()
        try:
            model = make_model(config, self.task_settings())
        except (TypeError, ValueError) as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise InputError(f"{self.config_path} makes no model: {reason}") from None
        path = self.best_path
        if not path.is_file():
            newest = self.checkpoints.newest()
            if newest is None:
                raise InputError(
                    f"{self.path} has no weights yet. Train it by: keras-transformer train "
                    f"--resume {self.path}"
                )
            path = newest / Checkpoints.WEIGHTS
        load_weights(model, path)
        return model

    def servable(
        self, options: GenerationOptions | None = None, jit_compile: bool = False
    ) -> Servable:
        """Load the model and its tokeniser, put together for its task.

        Args:
            options: `GenerationOptions`, for what writes text.
            jit_compile: Whether XLA compiles what writes text.
        """
        settings = self.task_settings()
        tokenizer = self.tokenizer() if find_task(settings.task).has_text else None
        return make_servable(self.load_model(), tokenizer, settings, options, jit_compile)

    def steps_done(self) -> int:
        """Return the step of the newest checkpoint, 0 if there is none."""
        newest = self.checkpoints.newest()
        return 0 if newest is None else Checkpoints.step_of(newest)

    def check_unfinished(self, steps: int) -> None:
        """Make sure that there is something left to train.

        Raises:
            InputError: If the run has been trained for `steps` already.
        """
        if steps <= self.steps_done():
            raise InputError(
                f"{self.path} has been trained for {self.steps_done():,} steps already; ask for "
                "more by --steps."
            )

    def extend(self, steps: int) -> None:
        """Ask for another number of steps in all.

        Raises:
            InputError: If the run has been trained that far already, or another process trains it.
        """
        self.check_unfinished(steps)
        config = dataclasses.replace(self._training_config(self._config()["training"]), steps=steps)
        with locked(self.path, "changing its number of steps"):
            self.save_config(self.model_config(), config, self.task_settings())

    def save_best(self, model: keras.Model) -> None:
        """Keep the weights as the best so far."""
        with replacing(self.best_path) as new:
            save_weights(model, new)


def load_weights(model: keras.Model, path: Path | str) -> None:
    """Load weights into a model.

    Raises:
        InputError: If the file is damaged or made for another model.
    """
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]  # Keras goes on with every tensor it holds
        raise InputError(f"{path} does not fit the model or is damaged: {reason}") from None
