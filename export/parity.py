"""Proof before publication: an artefact, run in a fresh process, writes what the model writes."""

import json
import subprocess
import sys
from pathlib import Path

from keras_transformer.errors import InputError
from keras_transformer.translation import translate

# Texts that every artefact has to get right, beside the run's own samples.
EDGE_CASES = ["", "  \t ", "a", "\N{GRINNING FACE} e\N{COMBINING ACUTE ACCENT}", "word " * 400]
# Two tokens whose log-probabilities differ by no more than this are a tie: rounding decides.
TIE = 1e-4


def run_in_fresh_process(artefact: Path, texts: list[str]) -> list[str]:
    """Translate texts with an artefact in a process that has loaded nothing else.

    Raises:
        InputError: If the process fails; the message holds the end of what it said.
    """
    child = subprocess.run(
        [sys.executable, "-m", "keras_transformer.export.parity", str(artefact)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        raise InputError(
            f"{artefact.name} does not run in a fresh process:\n{child.stderr[-2000:]}"
        )
    return json.loads(child.stdout)


def check(artefact: Path, translator, texts: list[str]) -> None:
    """Compare an artefact with the model it was made from.

    Args:
        artefact: A SavedModel version, or a `.tflite` from text to text or from ids to ids.
        translator: The `Translator` that was exported.
        texts: Sample texts; `EDGE_CASES` are added.

    Raises:
        InputError: If any output differs by more than a tie in the last bits can explain.
    """
    texts = [*texts, *EDGE_CASES]
    expected = translate(translator, texts).texts
    actual = run_in_fresh_process(artefact, texts)
    for text, wanted, got in zip(texts, expected, actual, strict=True):
        if wanted != got and not _is_tie(translator, text, got):
            raise InputError(
                f"{artefact.name} disagrees with the model it was made from, so nothing was "
                f"written.\n  text:     {text[:200]!r}\n  model:    {wanted[:200]!r}\n"
                f"  artefact: {got[:200]!r}"
            )


def _is_tie(translator, source, target):
    """Say whether `target` is what greedy search gives if ties are broken otherwise."""
    import tensorflow as tf

    from keras_transformer.models.config import BEGIN_ID, END_ID
    from keras_transformer.translator import append_end

    tokenizer, length = translator.tokenizer, translator.max_length
    source_ids = append_end(tokenizer.tokenize([source]).to_tensor(), length)
    labels = append_end(tokenizer.tokenize([target]).to_tensor(), length)  # (1, T)
    inputs = tf.concat([[[BEGIN_ID]], labels[:, :-1]], 1)
    logits = translator.model({"source_ids": source_ids, "target_ids": inputs}, training=False)
    chosen = tf.gather(logits, labels, batch_dims=2)  # (1, T)
    gap = tf.reduce_max(logits, axis=-1) - chosen
    cut = tf.where(labels == END_ID, 0.0, gap)  # the end may also have come by the length limit
    return bool(tf.reduce_all(cut <= TIE))


def _main(artefact: Path) -> None:
    from keras_transformer.export.runtime import load

    texts = json.load(sys.stdin)
    if artefact.name.endswith(".ids.tflite"):
        outputs = _translate_ids(artefact, texts)
    else:
        outputs = translate(load(artefact), texts).texts
    json.dump(outputs, sys.stdout)


def _translate_ids(artefact: Path, texts: list[str]) -> list[str]:
    """Translate with the file from ids to ids, cutting and joining text on its own."""
    from keras_transformer.export.runtime import interpreter
    from keras_transformer.text import WordPieceTokenizer
    from keras_transformer.translation import decode

    tokenizer = WordPieceTokenizer.load(artefact.with_name("vocab.txt"))
    runner = interpreter(artefact).get_signature_runner("ids")
    ids = runner(ids=tokenizer.tokenize(texts).to_tensor().numpy())["ids"]
    return decode(tokenizer.detokenize(ids).numpy())


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
