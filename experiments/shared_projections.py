"""What can attention not do whose queries are its keys?

An encoder of one layer and one head learns to say which symbol stands before each. Scores of shared
queries and keys are symmetric: the symbol before matches as well as the symbol after.

    python experiments/shared_projections.py --seeds 3
"""

from common import keras, np, options, plt, print_table, save, show

from keras_transformer.layers import (
    Encoder,
    RotaryPositions,
    SharedProjectionAttention,
    SinusoidalPositions,
    TokenEmbedding,
    causal_mask,
)

SYMBOLS, WIDTH, LENGTH = 16, 64, 16
BATCH, STEPS, EVERY = 64, 600, 40

KINDS = {  # positions, what is shared, and whether there is a causal mask
    "rotary, Q, K and V apart": (True, {}, False),
    "rotary, K = V": (True, {"share_kv": True}, False),
    "rotary, Q = K": (True, {"share_qk": True}, False),
    "rotary, Q = K, causal mask": (True, {"share_qk": True}, True),
    "sinusoidal, Q, K and V apart": (False, {}, False),
    "sinusoidal, Q = K": (False, {"share_qk": True}, False),
}


def make(kind):
    """Make the encoder with its embedding and a projection to the symbols."""
    rotary, shared, causal = KINDS[kind]
    ids = keras.Input((LENGTH,), dtype="int32")
    x = TokenEmbedding(SYMBOLS, WIDTH)(ids)
    if not rotary:
        x = SinusoidalPositions(LENGTH)(x)
    encoder = Encoder(
        1,
        num_heads=1,
        d_model=WIDTH,
        d_ff=2 * WIDTH,
        norm_first=True,
        attention=SharedProjectionAttention(1, WIDTH, **shared),
        positions=RotaryPositions(WIDTH) if rotary else None,
    )
    x = encoder(x, attention_mask=causal_mask(LENGTH) if causal else None)
    model = keras.Model(ids, keras.layers.Dense(SYMBOLS)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    model.compile(keras.optimizers.Adam(2e-3), loss=loss, jit_compile=False)
    return model


def examples(rng, rows):
    """Return symbols, and at each position the one before; -1 at the first."""
    ids = rng.integers(0, SYMBOLS, (rows, LENGTH)).astype("int32")
    labels = np.full_like(ids, -1)
    labels[:, 1:] = ids[:, :-1]
    return ids, labels


def curve(kind, seed):
    """Train once, and return the share of right symbols on new examples, every few steps."""
    keras.utils.set_random_seed(seed)
    rng, model = np.random.default_rng(seed), make(kind)
    found = []
    for _ in range(STEPS // EVERY):
        model.fit(*examples(rng, BATCH * EVERY), batch_size=BATCH, verbose=0)
        ids, labels = examples(rng, 256)
        right = np.argmax(model.predict_on_batch(ids), axis=-1) == labels
        found.append(right[:, 1:].mean())
    return found


def main():
    """Print how much each kind learns, and draw how."""
    asked = options(__doc__, "shared_projections.png")
    figure, axes = plt.subplots(figsize=(6, 3.5))
    steps = [EVERY * (i + 1) for i in range(STEPS // EVERY)]
    rows = []
    for color, kind in enumerate(KINDS):
        curves = [curve(kind, seed) for seed in range(1, asked.seeds + 1)]
        for i, one in enumerate(curves):
            axes.plot(steps, one, color=f"C{color}", label=None if i else kind)
        last = [one[-1] for one in curves]
        rows.append([kind, show(last), ", ".join(f"{value:.3f}" for value in last)])
    print_table(["positions and projections", f"right at step {STEPS}", "each seed"], rows)
    axes.set(xlabel="step", ylabel="right", ylim=(0, 1.05))
    axes.legend(fontsize="small")
    save(figure, asked.figure)


if __name__ == "__main__":
    main()
