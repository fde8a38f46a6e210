"""Setting up a run: from text files to a run directory that is ready to be trained."""

from pathlib import Path
from typing import Any

from rich.console import Console

from keras_transformer.errors import InputError
from keras_transformer.models import TransformerConfig
from keras_transformer.text import WordPieceTokenizer, learn_vocabulary
from keras_transformer.training.config import TrainingConfig, paper_peak
from keras_transformer.training.corpus_size import remember
from keras_transformer.training.run_directory import RunDirectory
from keras_transformer.training.text_files import Corpus, ParallelFiles, read_lines

SAMPLES = 50  # source sentences kept in the run
DEFAULT_EPOCHS = 10


def new_run(
    output,
    train: Corpus,
    valid: ParallelFiles,
    *,
    preset: str = "tiny",
    steps: int | None = None,
    epochs: int | None = None,
    vocabulary: Path | None = None,
    vocabulary_size: int = 8000,
    split_digits: bool = False,
    overwrite: bool = False,
    model: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    console: Console | None = None,
) -> RunDirectory:
    """Check the data, learn a vocabulary if none is given, and write the run's configuration.

    Args:
        output: Folder of the run.
        train: The text to train on.
        valid: The text to validate on.
        preset: Name of the model's preset.
        steps: Number of updates.
        epochs: Number of passes over the training text, instead of `steps`. With neither, 10.
        vocabulary: File with a vocabulary; None to learn one from both sides of `train`.
        vocabulary_size: Number of pieces to learn.
        split_digits: Whether digits stay single pieces when the vocabulary is learned.
        overwrite: Whether a run in `output` may be replaced.
        model: Fields of `TransformerConfig` that differ from the preset.
        training: Fields of `TrainingConfig` that differ from their defaults.
        console: Where progress is shown; standard error if None.

    Returns:
        The run directory.

    Raises:
        InputError: If anything is missing, damaged, out of range or in the way. Nothing has been
            written then.
    """
    console = console or Console(stderr=True)
    if steps is not None and epochs is not None:
        raise InputError("Give --steps or --epochs, not both.")
    for name, value in (("steps", steps), ("epochs", epochs), ("vocab-size", vocabulary_size)):
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, got {value}.")
    RunDirectory.check_free(output, overwrite)
    # All settings are checked before anything that takes time, with stand-ins for what the text
    # will decide: the size of the vocabulary, and the number of steps in an epoch.
    config = TransformerConfig.preset(preset, 1000, **(model or {}))
    settings: dict[str, Any] = {
        **_text_fields(train),
        "valid_source": _absolute(valid.source),
        "valid_target": _absolute(valid.target),
        "learning_rate": paper_peak(config.d_model),
        "max_length": config.max_length,
        **(training or {}),
    }
    batching = TrainingConfig(**_with_steps(settings, steps or 1_000_000)).batching
    train.check()
    valid.check()

    if vocabulary is None:
        try:
            pieces = learn_vocabulary(
                train.lines(),
                vocabulary_size,
                split_digits=split_digits,
                progress=console.is_terminal,
            )
        except ValueError as error:
            raise InputError(f"The vocabulary can't be learned: {error}") from None
        tokenizer = WordPieceTokenizer(pieces)
        console.print(f"Learned a vocabulary of {len(tokenizer):,} pieces")
    else:
        try:
            tokenizer = WordPieceTokenizer.load(vocabulary)
        except (OSError, ValueError) as error:
            raise InputError(f"The vocabulary can't be read: {error}") from None

    # Measuring refuses text of which nothing can be used.
    sizes = {
        "training": remember(train, tokenizer, batching),
        "validation": remember(valid, tokenizer, batching),
    }
    if steps is None:
        steps = (epochs or DEFAULT_EPOCHS) * sizes["training"]["size"]["batches"]
    first_lines = read_lines(valid.pairs[0][0])
    return RunDirectory.create(
        output,
        TransformerConfig.preset(preset, len(tokenizer), **(model or {})),
        TrainingConfig(**_with_steps(settings, steps)),
        tokenizer,
        [line for line, _ in zip(first_lines, range(SAMPLES), strict=False)],
        overwrite,
        sizes,
    )


def _text_fields(train):
    if isinstance(train, ParallelFiles):
        return {"source": _absolute(train.source), "target": _absolute(train.target)}
    return {
        "source": [_absolute(part.source) for part in train.parts],
        "target": [_absolute(part.target) for part in train.parts],
        "weights": None if train.weights is None else list(train.weights),
    }


def _absolute(path):
    # Links are not followed: what a link leads to may lack the ending .gz.
    return str(path.absolute())


def _with_steps(settings, steps):
    """Fill in what depends on the number of steps, where it is not set."""
    often = max(1, min(1000, steps // 5))
    return {
        "warmup_steps": min(4000, max(1, steps // 4)),
        "validate_every": often,
        "checkpoint_every": often,
        **settings,
        "steps": steps,
    }
