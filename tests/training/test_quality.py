"""Does training still teach? A tiny model learns a grammar and translates what it has not seen."""

import itertools

from fixtures_grammar import sentence_pairs
from fixtures_run import quiet

from keras_transformer.artefacts.bulk import translate
from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.pipelines.translator import Translator
from keras_transformer.training.data.corpora import ParallelFiles
from keras_transformer.training.evaluation.text_scores import score_texts
from keras_transformer.training.new_run import new_run
from keras_transformer.training.trainer import train

SIZES = {"train": 6000, "valid": 40, "test": 100}
MODEL = {
    "num_layers": 2,
    "num_heads": 2,
    "d_model": 64,
    "d_ff": 128,
    "dropout": 0.0,
    "embedding_dropout": 0.0,
    "norm_first": True,
    "max_length": 48,
}
TRAINING = {
    "batch_tokens": 1024,
    "learning_rate": 5e-3,
    "warmup_steps": 60,
    "schedule": "cosine",
    "validate_every": 300,
    "checkpoint_every": 300,
}
STEPS = 300
LEAST_BLEU = 98


def learn(folder, seed=1):
    """Train on the grammar, and return BLEU on unseen sentences by greedy and by beam search."""
    pairs = iter(sentence_pairs(sum(SIZES.values()), seed))
    texts = {}
    for name, count in SIZES.items():
        texts[name] = list(zip(*itertools.islice(pairs, count), strict=True))
        for side, lines in zip(("source", "target"), texts[name], strict=True):
            (folder / f"{name}.{side}").write_text("".join(f"{x}\n" for x in lines), "utf-8")
    run = new_run(
        folder / "run",
        *(
            ParallelFiles(folder / f"{x}.source", folder / f"{x}.target")
            for x in ("train", "valid")
        ),
        steps=STEPS,
        vocabulary_size=150,
        model=MODEL,
        training={**TRAINING, "seed": seed},
        console=quiet(),
    )
    run.samples_path.unlink()  # to translate them takes longer than some steps
    train(run, quiet())
    model, (sources, references) = run.load_model(), texts["test"]
    translators = [
        Translator(model, run.tokenizer(), GenerationOptions(beam_size=k)) for k in (1, 4)
    ]
    return [score_texts(translate(t, sources).texts, references).bleu for t in translators]


def test_a_grammar_is_learned(tmp_path):  # M19
    greedy, beam = learn(tmp_path)
    assert greedy > LEAST_BLEU
    assert beam > LEAST_BLEU
