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


def run_in_fresh_process(artefact: Path, texts: list[str]) -> list[tuple[str, float]]:
    """Translate texts with an artefact in a process that has loaded nothing else.

    Returns:
        The best output of each text and its score.

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
    return [(text, score) for text, score in json.loads(child.stdout)]


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
    result = translate(translator, texts)
    actual = run_in_fresh_process(artefact, texts)
    for text, wanted, expected, (got, score) in zip(
        texts, result.texts, result.scores, actual, strict=True
    ):
        if wanted != got and not _is_tie(translator, text, got, score, expected):
            raise InputError(
                f"{artefact.name} disagrees with the model it was made from, so nothing was "
                f"written.\n  text:     {text[:200]!r}\n  model:    {wanted[:200]!r}\n"
                f"  artefact: {got[:200]!r}"
            )


def _is_tie(translator, source, target, score, expected):
    """Say whether another target than expected is the work of rounding alone.

    Greedy search goes another way for good where two tokens tie. Two hypotheses of beam search tie
    by their scores. In sampling a draw may fall on the border of two tokens, and then the score has
    to be what the model gives this target.
    """
    from keras_transformer.decoding import GenerationOptions

    options = translator.options
    if options.samples:
        own, _, _ = translator.score([source], [target])
        return bool(abs(own[0] - score) <= 1e-3 * max(1.0, abs(score)))
    if options != GenerationOptions(max_length=options.max_length):
        return bool(abs(score - expected) <= TIE)
    return _is_greedy_tie(translator, source, target)


def _is_greedy_tie(translator, source, target):
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
        result = translate(load(artefact), texts)
        outputs = list(zip(result.texts, result.scores, strict=True))
    json.dump(outputs, sys.stdout)


def _translate_ids(artefact: Path, texts: list[str]) -> list[tuple[str, float]]:
    """Translate with the file from ids to ids, cutting and joining text on its own."""
    from keras_transformer.export.runtime import interpreter
    from keras_transformer.text import WordPieceTokenizer
    from keras_transformer.translation import decode

    tokenizer = WordPieceTokenizer.load(artefact.with_name("vocab.txt"))
    runner = interpreter(artefact).get_signature_runner("ids")
    outputs = runner(ids=tokenizer.tokenize(texts).to_tensor().numpy())
    ids, scores = outputs["ids"], outputs["score"]
    if ids.ndim == 3:  # the best of several hypotheses
        ids, scores = ids[:, 0], scores[:, 0]
    return list(zip(decode(tokenizer.detokenize(ids).numpy()), scores.tolist(), strict=True))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
