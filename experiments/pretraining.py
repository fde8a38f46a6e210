"""What does text without labels teach, and how much of it is to be hidden?

Sentences such as "film was great and fine, ..." have eight adjectives, of which seven are of one
polarity. No text says which adjectives are good; those of like polarity only stand together. A
masked language model reads sentences, and its encoder then learns to tell good from bad by few
labelled ones, which have four adjectives of each polarity. It is asked about the twenty others.

    python experiments/pretraining.py --seeds 3
"""

from common import keras, np, options, plt, print_table, save, show, tf

from keras_transformer.models import Bert, BertConfig, MaskedLanguageModel, SequenceClassifier
from keras_transformer.training import CrossEntropy, mask_tokens
from keras_transformer.training.transfer import transfer_weights

PADDING, UNKNOWN, CLS, SEP, MASK, WAS, AND = range(7)
SPECIAL = [PADDING, UNKNOWN, CLS, SEP]
NOUNS = np.arange(7, 23)
ADJECTIVES = np.arange(23, 71).reshape(2, 24)  # bad ones and good ones
CLAUSES, OTHERS = 4, 1  # of two adjectives each; how many adjectives of the other polarity
CONFIG = BertConfig(
    vocabulary_size=71,
    num_layers=2,
    num_heads=2,
    d_model=32,
    d_ff=64,
    max_length=5 * CLAUSES + 2,
    num_segments=0,
    dropout=0.0,
    embedding_dropout=0.0,
    attention_dropout=0.0,
    begin_id=CLS,
    end_id=SEP,
    mask_id=MASK,
)

RATES, USUAL = (0.05, 0.15, 0.3, 0.5, 0.8), 0.15
BATCH, STEPS = 64, 400  # of pre-training
LABELLED, TUNING_BATCH, TUNING_STEPS, EVERY = 128, 32, 120, 4
TARGET = 0.95
LABELS = {"all": (ADJECTIVES, ADJECTIVES), "4 of 24": (ADJECTIVES[:, :4], ADJECTIVES[:, 4:])}
WORDS = ("[CLS]", "mean of all words", "first word")


def sentences(rng, rows, adjectives=ADJECTIVES):
    """Make sentences of some adjectives, and say which are good."""
    labels = rng.integers(0, 2, rows)
    other = np.zeros((rows, 2 * CLAUSES), int)
    other[:, :OTHERS] = 1
    kinds = labels[:, None] ^ rng.permuted(other, axis=1)
    chosen = adjectives[kinds, rng.integers(0, adjectives.shape[1], kinds.shape)]
    nouns = rng.choice(NOUNS, (rows, CLAUSES))
    ids = np.full((rows, CONFIG.max_length), SEP, "int32")
    ids[:, 0] = CLS
    ids[:, 1:-1:5], ids[:, 2:-1:5], ids[:, 4:-1:5] = nouns, WAS, AND
    ids[:, 3:-1:5], ids[:, 5:-1:5] = chosen[:, ::2], chosen[:, 1::2]
    return ids, labels


def hide(ids, seed, rate):
    """Make inputs and labels of a masked language model."""
    out = mask_tokens(
        ids,
        seed,
        mask_id=MASK,
        vocabulary_size=CONFIG.vocabulary_size,
        special_ids=SPECIAL,
        rate=rate,
    )
    labels = out.pop("labels")
    return out, labels


def pretrain(seed, rate):
    """Train a masked language model on text without labels."""
    keras.utils.set_random_seed(seed)
    model = MaskedLanguageModel(CONFIG)
    loss = CrossEntropy(ignore_id=-1)
    model.compile(keras.optimizers.Adam(2e-3), loss=loss, jit_compile=False)
    ids, _ = sentences(np.random.default_rng(seed), STEPS * BATCH)
    batches = tf.data.Dataset.from_tensor_slices(ids).batch(BATCH).enumerate()
    model.fit(batches.map(lambda i, x: hide(x, (seed, i), rate)), shuffle=False, verbose=0)
    return model


def held_out_loss(model, rate):
    """Return its loss on sentences that it has not seen."""
    ids, _ = sentences(np.random.default_rng(0), 2000)
    inputs, labels = hide(ids, (0, 0), rate)
    return float(CrossEntropy(ignore_id=-1)(labels, model(inputs)))


def fine_tune(seed, start, adjectives, asked):
    """Learn from labelled sentences, and return the model and its accuracies on others."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    ids, labels = sentences(rng, LABELLED, adjectives)
    others, answers = sentences(rng, 1000, asked)
    model = SequenceClassifier(CONFIG, num_labels=2)
    if start is not None:
        transfer_weights(start, model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss=loss, jit_compile=False)
    found = []
    for step in range(TUNING_STEPS + 1):
        if step % EVERY == 0:
            logits = model.predict_on_batch({"token_ids": others})
            found.append(np.mean(np.argmax(logits, axis=1) == answers))
        rows = rng.choice(LABELLED, TUNING_BATCH, replace=False)
        model.train_on_batch({"token_ids": ids[rows]}, labels[rows])
    return model, found


def steps_to_target(found):
    """Return after how many steps an accuracy is first above the target, or infinity."""
    return next((EVERY * i for i, share in enumerate(found) if share >= TARGET), np.inf)


def probes(model, seed):
    """Return how well a linear map of each kind of vector tells good from bad.

    It is fitted to the labelled sentences, and asked about other adjectives.
    """
    encoder = Bert(CONFIG)
    transfer_weights(model, encoder)
    rng = np.random.default_rng(seed)
    vectors, labels = [], []
    for rows, adjectives in zip((LABELLED, 1000), LABELS["4 of 24"], strict=True):
        ids, kinds = sentences(rng, rows, adjectives)
        states = np.array(encoder({"token_ids": ids})["sequence"])
        vectors.append((states[:, 0], states[:, 1:-1].mean(axis=1), states[:, 1]))
        labels.append(2 * kinds - 1)
    found = []
    for fitted, asked in zip(*vectors, strict=True):
        center, size = fitted.mean(axis=0), fitted.std(axis=0) + 1e-6
        a, b = (fitted - center) / size, (asked - center) / size
        # Ridge regression: as many directions as there are would fit 128 sentences too well.
        weights = np.linalg.solve(a.T @ a + 10 * np.eye(len(center)), a.T @ labels[0])
        found.append(np.mean(np.sign(b @ weights + labels[0].mean()) == labels[1]))
    return found


def main():
    """Print what each rate of hiding, start and vector gives, and draw the first two."""
    asked = options(__doc__, "pretraining.png")
    seeds = range(1, asked.seeds + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), width_ratios=(2, 3))

    trained = {(rate, seed): pretrain(seed, rate) for rate in RATES for seed in seeds}
    some = LABELS["4 of 24"]
    tuned = {key: fine_tune(key[1], model, *some) for key, model in trained.items()}
    rows = []
    for rate in RATES:
        models = [trained[rate, seed] for seed in seeds]
        own, usual = ([held_out_loss(x, r) for x in models] for r in (rate, USUAL))
        last = [tuned[rate, seed][1][-1] for seed in seeds]
        each = ", ".join(f"{value:.3f}" for value in last)
        rows.append([f"{rate}", show(own), show(usual), show(last), each])
        left.plot([rate] * len(usual), usual, "o", color="C0")
    head = ["hidden", "loss at this rate", f"loss at {USUAL}", "accuracy", "each seed"]
    print_table(head, rows)
    left.set(xlabel="share hidden in pre-training", ylabel=f"loss where {USUAL} are hidden")

    rows = []
    steps = range(0, TUNING_STEPS + 1, EVERY)
    for name, adjectives in LABELS.items():
        for start, begun, color in (("pre-trained", trained, "C0"), ("from scratch", {}, "C1")):
            curves = [fine_tune(seed, begun.get((USUAL, seed)), *adjectives)[1] for seed in seeds]
            first = [steps_to_target(one) for one in curves]
            told = ", ".join("never" if x == np.inf else f"{x}" for x in first)
            rows.append([name, start, told, show([one[-1] for one in curves])])
            for i, one in enumerate(curves):
                style = {"color": color, "linestyle": "-" if name == "all" else "--"}
                right.plot(steps, one, label=None if i else f"{start}, {name}", **style)
    print()
    print_table(["adjectives", "start", f"steps to {TARGET}", f"at step {TUNING_STEPS}"], rows)
    right.axhline(TARGET, color="grey", linewidth=1)
    right.set(xlabel="step of fine-tuning", ylabel="accuracy", ylim=(0, 1.05))
    place = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
    right.legend(title="start, adjectives in labels", fontsize="small", **place)

    print()
    before = [probes(trained[USUAL, seed], seed) for seed in seeds]
    after = [probes(tuned[USUAL, seed][0], seed) for seed in seeds]
    rows = [
        [word, *(show([one[i] for one in found]) for found in (before, after))]
        for i, word in enumerate(WORDS)
    ]
    print_table(["vector", "before fine-tuning", "after"], rows)
    save(figure, asked.figure)


if __name__ == "__main__":
    main()
