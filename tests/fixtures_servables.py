"""A tiny servable of every task, with random weights: what matters is what it takes and gives."""

import functools
from pathlib import Path

from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.models import BertConfig, GptConfig, TransformerConfig
from keras_transformer.models.vision_transformer import VisionTransformerConfig
from keras_transformer.pipelines.tasks import (
    TASKS,
    TaskSettings,
    find_task,
    make_model,
    make_servable,
)
from keras_transformer.text import (
    SPECIAL_TOKENS,
    BertTokenizer,
    BytePairTokenizer,
    CharacterTokenizer,
    SentencePieceTokenizer,
    WordPieceTokenizer,
    WordTokenizer,
    learn_byte_pairs,
    learn_characters,
    learn_words,
)

GOLDEN = Path(__file__).parent / "golden"

SIZES = {"num_layers": 1, "num_heads": 2, "d_model": 8, "d_ff": 16, "max_length": 16}
LETTERS = "abcdefghij"
PIECES = [*SPECIAL_TOKENS, "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS), "two", "men", "."]
LABELS = ("good", "bad")
SAMPLES = GenerationOptions(temperature=1.0, num_hypotheses=2, max_length=6)
# What a servable is made with, by name: its task, and options where it writes text.
CASES = {
    task.name: (task.name, None) for task in TASKS.values() if task.name != "summarisation"
} | {
    "translation, samples": ("translation", SAMPLES),
}
SETTINGS = {"classification": {"pairs": True}, "embedding": {"prompt": "two "}}


def make_config(task):
    """Return the smallest configuration for a task."""
    if not find_task(task).has_text:
        fields = {**SIZES, "image_size": 4, "patch_size": 2, "channels": 1}
        return VisionTransformerConfig(**fields, num_classes=len(LABELS))
    if task == "causal-lm":
        return GptConfig(len(PIECES), **SIZES)
    if task in ("translation", "summarisation"):
        return TransformerConfig(len(PIECES), **SIZES)
    return BertConfig(len(PIECES), **SIZES, begin_id=2, end_id=3)


def settings_of(task):
    """Return what a run of a task holds beside the configuration."""
    return TaskSettings(task, LABELS if find_task(task).has_labels else (), SETTINGS.get(task, {}))


@functools.cache
def servable(name):
    """Return the servable of a case."""
    task, options = CASES[name]
    head = settings_of(task)
    tokenizer = WordPieceTokenizer(PIECES) if find_task(task).has_text else None
    return make_servable(make_model(make_config(task), head), tokenizer, head, options)


@functools.cache
def tokenizers():
    """Return a tokeniser of every kind, by its name."""
    lines = ["two men", "a man", "men and a dog"] * 3
    pieces, merges = learn_byte_pairs(lines, 280)
    return {
        "wordpiece": WordPieceTokenizer(PIECES),
        "bert": BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PIECES[5:]]),
        "byte pairs": BytePairTokenizer(pieces, merges),
        "characters": CharacterTokenizer(learn_characters(lines)),
        "words": WordTokenizer(learn_words(lines, 20)),
        "sentencepiece": SentencePieceTokenizer.from_files(GOLDEN / "sentencepiece.model"),
    }
