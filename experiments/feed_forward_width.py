"""Does a wider feed-forward network learn more?

An encoder of one layer learns by heart which of 16 random labels belongs to each position of 512
random sequences: there is no rule, so the loss says how much fits into the weights.

    python experiments/feed_forward_width.py --seeds 3
"""

from claims import check_claims, of_feed_forward_width
from common import keras, np, options, plt, print_table, save, show

from keras_transformer.layers import Encoder, SinusoidalPositions, TokenEmbedding

SYMBOLS, WIDTH, LENGTH, ROWS = 16, 32, 8, 512
BATCH, EPOCHS = 64, 120
KINDS = {  # layers, and width of the hidden layer
    "d / 4": (1, WIDTH // 4),
    "d": (1, WIDTH),
    "4 d": (1, 4 * WIDTH),
    "d, 2 layers": (2, WIDTH),
}


def make(kind):
    """Make the encoder with its embedding and a projection to the labels."""
    layers, d_ff = KINDS[kind]
    ids = keras.Input((LENGTH,), dtype="int32")
    x = SinusoidalPositions(LENGTH)(TokenEmbedding(SYMBOLS, WIDTH)(ids))
    x = Encoder(layers, num_heads=4, d_model=WIDTH, d_ff=d_ff, norm_first=True)(x)
    model = keras.Model(ids, keras.layers.Dense(SYMBOLS)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss=loss, jit_compile=False)
    return model


def losses(kind, seed):
    """Train once, and return the number of weights and the loss of every epoch."""
    keras.utils.set_random_seed(seed)
    rng, model = np.random.default_rng(seed), make(kind)
    ids, labels = (rng.integers(0, SYMBOLS, (ROWS, LENGTH)).astype("int32") for _ in range(2))
    history = model.fit(ids, labels, batch_size=BATCH, epochs=EPOCHS, verbose=0).history
    return model.count_params(), history["loss"]


def main():
    """Print the last loss at each width, and draw them all."""
    asked = options(__doc__, "feed_forward_width.png")
    figure, axes = plt.subplots(figsize=(6, 3.5))
    rows, lasts = [], {}
    for color, kind in enumerate(KINDS):
        found = [losses(kind, seed) for seed in range(1, asked.seeds + 1)]
        for i, (_, curve) in enumerate(found):
            axes.plot(curve, color=f"C{color}", label=None if i else kind)
        last = lasts[kind] = [curve[-1] for _, curve in found]
        row = [kind, f"{found[0][0]:,}", show(last), ", ".join(f"{value:.3f}" for value in last)]
        rows.append(row)
    print_table(["hidden width", "weights", f"loss at epoch {EPOCHS}", "each seed"], rows)
    axes.axhline(np.log(SYMBOLS), color="grey", linewidth=1)
    axes.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
    axes.legend(fontsize="small")
    save(figure, asked.figure)
    check_claims(of_feed_forward_width(lasts))


if __name__ == "__main__":
    main()
