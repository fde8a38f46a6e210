"""Which positions still work on sequences longer than those trained on?

Two layers with a causal mask learn to say at each position which symbol stands two positions
before, on sequences of 8 to 32 symbols, and are then asked about sequences of up to 128.

    python experiments/longer_sequences.py --seeds 3
"""

from claims import check_claims, of_longer_sequences
from common import keras, np, options, plt, print_table, save, show
from keras import ops

from keras_transformer.layers import (
    BucketedBias,
    Distances,
    Encoder,
    LearnedPositions,
    LinearBias,
    RotaryPositions,
    ShawAttention,
    SinusoidalPositions,
    TokenEmbedding,
    TransformerXLAttention,
    causal_mask,
)

SYMBOLS, BACK, WIDTH, HEADS = 16, 2, 64, 4
TRAINED = (8, 16, 24, 32)
ASKED = (32, 48, 64, 96, 128)
BATCH, STEPS = 32, 400

KINDS = {  # what is added to embeddings, the stack's positions, and the attention
    "sinusoidal": (lambda: SinusoidalPositions(max(ASKED)), None, None),
    "learned": (lambda: LearnedPositions(max(ASKED)), None, None),
    "rotary": (None, lambda: RotaryPositions(WIDTH // HEADS), None),
    "T5's buckets": (None, lambda: BucketedBias(HEADS, bidirectional=False), None),
    "ALiBi": (None, lambda: LinearBias(HEADS), None),
    "Shaw": (None, Distances, lambda: ShawAttention(HEADS, WIDTH, max_distance=8)),
    "Transformer-XL": (None, Distances, lambda: TransformerXLAttention(HEADS, WIDTH)),
}


class Causal(keras.layers.Layer):
    """The causal mask of a batch of ids."""

    def call(self, ids):
        """Make it, as long as they are."""
        return causal_mask(ops.shape(ids)[1])


def make(kind):
    """Make the encoder with its embedding and a projection to the symbols."""
    add, positions, attention = KINDS[kind]
    ids = keras.Input((None,), dtype="int32")
    x, mask = TokenEmbedding(SYMBOLS, WIDTH)(ids), Causal()(ids)
    if add is not None:
        x = add()(x)
    x = Encoder(
        2,
        num_heads=HEADS,
        d_model=WIDTH,
        d_ff=2 * WIDTH,
        norm_first=True,
        positions=None if positions is None else positions(),
        attention=None if attention is None else attention(),
    )(x, attention_mask=mask)
    model = keras.Model(ids, keras.layers.Dense(SYMBOLS)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    model.compile(keras.optimizers.Adam(2e-3), loss=loss, jit_compile=False)
    return model


def examples(rng, rows, length):
    """Return symbols, and at each position the one two before; -1 where there is none."""
    ids = rng.integers(0, SYMBOLS, (rows, length)).astype("int32")
    labels = np.full_like(ids, -1)
    labels[:, BACK:] = ids[:, :-BACK]
    return ids, labels


def accuracies(kind, seed):
    """Train once, and return the share of right symbols, at each length over its last 16."""
    keras.utils.set_random_seed(seed)
    rng, model = np.random.default_rng(seed), make(kind)
    for _ in range(STEPS):
        model.train_on_batch(*examples(rng, BATCH, rng.choice(TRAINED)))
    found = []
    for length in ASKED:
        ids, labels = examples(rng, 64, length)
        right = np.argmax(model(ids), axis=-1) == labels
        found.append(right[:, -16:].mean())
    return found


def main():
    """Print the accuracy at each length, and draw it."""
    asked = options(__doc__, "longer_sequences.png")
    figure, axes = plt.subplots(figsize=(7, 3.5))
    rows, right = [], {}
    for i, kind in enumerate(KINDS):
        found = np.array([accuracies(kind, seed) for seed in range(1, asked.seeds + 1)])
        rows.append([kind, *(show(column, ".2f") for column in found.T)])
        right[kind] = dict(zip(ASKED, found.T, strict=True))
        axes.plot(ASKED, found.mean(axis=0), marker="o", color=f"C{i}", label=kind)
    print_table(["positions", *(f"length {n}" for n in ASKED)], rows)
    axes.axvline(max(TRAINED), color="grey", linewidth=1)
    axes.set(xlabel="length; trained up to the line", ylabel="right", ylim=(0, 1.05), xticks=ASKED)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, asked.figure)
    check_claims(of_longer_sequences(right))


if __name__ == "__main__":
    main()
