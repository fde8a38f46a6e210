"""The command `explain`: a claim of the textbooks, measured while you wait."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer
from rich.table import Table

from keras_transformer.cli.terminal import make_printer

if TYPE_CHECKING:
    import numpy as np

Topic = Literal[
    "score-variance", "attention-vs-dense", "shared-queries-and-keys", "positions", "norms"
]


class Finding(NamedTuple):
    """The measurements of a topic: a table, and what it shows in a sentence."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    sentence: str


def explain(
    topic: Annotated[Topic, typer.Argument(help="What to measure.")],
    seed: Annotated[int, typer.Option(help="Seed of the random vectors and weights.", min=0)] = 0,
) -> None:
    """Measure a property of the layers, and say what it shows."""
    from keras_transformer import _backend  # noqa: F401  # isort: skip  (first: quiet)
    import keras
    import numpy as np

    keras.utils.set_random_seed(seed)
    found = MEASURES[topic](np.random.default_rng(seed))
    table = Table(*found.columns, title=found.title, box=None, pad_edge=False, header_style="")
    table.title_justify = "left"
    for column in table.columns[1:]:
        column.justify = "right"
    for row in found.rows:
        table.add_row(*row)
    console = make_printer()
    console.print(table)
    console.print(f"\n{found.sentence}")


def _normal(rng: "np.random.Generator", *shape: int) -> "np.ndarray":
    return rng.normal(size=shape).astype("float32")


def _gradient(weights: "np.ndarray") -> "np.floating":
    """Return the median norm of the derivative of the softmax by its scores, over all rows."""
    import numpy as np

    rows = np.asarray(weights, "float64").reshape(-1, weights.shape[-1])
    return np.median([np.linalg.norm(np.diag(row) - np.outer(row, row)) for row in rows])


def _score_variance(rng: "np.random.Generator") -> Finding:
    import numpy as np
    from keras import ops

    from keras_transformer.layers import scaled_dot_product_attention

    rows, gradients = [], {}
    for d_k in (4, 16, 64, 256, 1024):
        query, key = _normal(rng, 1, 1, 256, d_k), _normal(rng, 1, 1, 256, d_k)
        products = np.array(ops.matmul(query, ops.swapaxes(key, -1, -2)))
        weights, saturated = (
            np.array(
                scaled_dot_product_attention(factor * query, key[:, :, :64], key[:, :, :64])[1]
            )
            for factor in (1.0, d_k**0.5)
        )
        gradients[d_k] = _gradient(weights), _gradient(saturated)
        rows.append(
            (
                f"{d_k:,}",
                f"{np.var(products):,.2f}",
                f"{np.var(products / d_k**0.5):.3f}",
                *(f"{np.mean(np.max(w, axis=-1)):.3f}" for w in (saturated, weights)),
                *(f"{g:.4f}" for g in reversed(gradients[d_k])),
            )
        )
    narrow, wide = (gradients[d_k] for d_k in (16, 1024))
    return Finding(
        "Products of random vectors of width d_k; a softmax over 64 of them",
        (
            "d_k",
            "variance",
            "/ sqrt(d_k)",
            "largest weight",
            "and scaled",
            "gradient",
            "and scaled",
        ),
        rows,
        "The variance is d_k and, after division by sqrt(d_k), 1 at every width; without the "
        f"division the gradient of the softmax falls to {wide[1]:.4f} at d_k = 1,024, where it is "
        f"{wide[0]:.2f} with it, but in narrow heads ({narrow[1]:.2f} at 16) it does not vanish.",
    )


def _attention_vs_dense(rng: "np.random.Generator") -> Finding:
    import keras
    import numpy as np

    from keras_transformer.layers import MultiHeadAttention

    length, width = 5, 64
    attention = MultiHeadAttention(1, width)
    layers = {
        "dense layer over time": keras.Sequential(
            [keras.layers.Permute((2, 1)), keras.layers.Dense(length), keras.layers.Permute((2, 1))]
        ),
        "attention": attention,
    }
    sentences = [2 * _normal(rng, 1, length, width) for _ in range(2)]
    for layer in layers.values():
        layer(sentences[0])
    dense = layers["dense layer over time"]
    changes = []
    for weights_of in (
        # What goes in is mixed by the kernel: here found again from what comes out.
        lambda x: np.linalg.lstsq(x[0].T, np.array(dense(x))[0].T)[0],
        lambda x: np.array(attention(x, return_attention=True)[1])[0, 0],
    ):
        one, other = map(weights_of, sentences)
        changes.append(f"{np.max(np.abs(one - other)):.2f}")

    def try_longer(layer: Any) -> str:
        try:
            layer(_normal(rng, 1, 50, width))
        except ValueError:
            return "refused"
        return "runs"

    return Finding(
        f"How {length} positions of two sentences are mixed",
        ("", "weights differ by", "50 positions"),
        [
            (name, change, try_longer(layer))
            for (name, layer), change in zip(layers.items(), changes, strict=True)
        ],
        "A dense layer mixes every input by the same learned matrix, which fits one length; "
        f"attention computes its weights from what it sees (they differ by up to {changes[1]} "
        "between two inputs), at any length.",
    )


def _shared_queries_and_keys(rng: "np.random.Generator") -> Finding:
    import numpy as np

    from keras_transformer.layers import SharedProjectionAttention

    glorot = 2 / (512 + 64)
    rows, diagonals = [], []
    for name, d_model, variance, length in (
        ("Glorot, a head of 64", 512, glorot, 16),
        ("Glorot, a head of 64", 512, glorot, 512),
        ("this library's, 8 heads", 512, None, 512),
        ("BERT's, N(0, 0.02^2)", 768, 0.02**2, 128),
    ):
        found, skew = [], []
        for share_qk in (True, False):
            heads = d_model // 64 if variance is None else 1
            layer = SharedProjectionAttention(heads, d_model, share_qk=share_qk, head_width=64)
            layer.build((None, None, d_model))
            if variance is not None:
                for projection in (layer.query_projection, layer.key_projection):
                    kernel = projection.kernel
                    kernel.assign(variance**0.5 * rng.normal(size=kernel.shape))
            x = _normal(rng, 1, length, d_model)
            query, key = (
                np.array(y, "float64").reshape(length, heads, 64).swapaxes(0, 1)
                for y in (layer.query_projection(x)[0], layer.key_projection(x)[0])
            )
            scores = query @ key.swapaxes(1, 2) / 8
            skew.append(np.max(np.abs(scores - scores.swapaxes(1, 2))))
            weights = np.array(layer(x, return_attention=True)[1])[0]
            found.append(np.mean(np.diagonal(weights, axis1=1, axis2=2)))
        diagonals.append(found[0])
        rows.append(
            (
                name,
                f"{d_model}",
                f"{length}",
                *(f"{value:.3f}" for value in found),
                *(f"{value:.1f}" for value in skew),
            )
        )
    return Finding(
        "Weight of a token for itself, before training, on random tokens",
        (
            "kernels begin as",
            "d_model",
            "tokens",
            "Q = K",
            "Q, K apart",
            "asymmetry",
            "apart",
        ),
        rows,
        "With shared queries and keys the scores are symmetric, and with large kernels attention "
        f"begins near the identity ({diagonals[0]:.3f}); with smaller ones it does not "
        f"({diagonals[2]:.3f} and {diagonals[3]:.3f}), so that the claim depends on the initial "
        "weights and on the length.",
    )


def _positions(rng: "np.random.Generator") -> Finding:
    import numpy as np

    from keras_transformer.layers import Encoder, SinusoidalPositions, sinusoidal_table

    encoder = Encoder(2, num_heads=4, d_model=64, d_ff=128)
    x, order = _normal(rng, 1, 20, 64), rng.permutation(20)
    add = SinusoidalPositions(20)
    blind, sees = (
        np.max(np.abs(np.array(encoder(f(x)))[:, order] - np.array(encoder(f(x[:, order])))))
        for f in (lambda y: y, add)
    )
    table = sinusoidal_table(2048, 512).astype("float64")
    squares = np.sum(table**2, axis=1)
    apart = squares[:, None] + squares - 2 * table @ table.T
    nearest = np.sqrt(np.min(apart[~np.eye(2048, dtype=bool)]))
    spread = np.ptp(np.sum(table[:-7] * table[7:], axis=1))
    angles = 7 * 10000.0 ** (-np.arange(0, 512, 2) / 512)
    sine, cosine = table[:-7, 0::2], table[:-7, 1::2]
    turned = np.stack(
        [
            sine * np.cos(angles) + cosine * np.sin(angles),
            cosine * np.cos(angles) - sine * np.sin(angles),
        ],
        axis=-1,
    ).reshape(-1, 512)
    off = np.max(np.abs(turned - table[7:]))
    return Finding(
        "Self-attention and the sinusoidal encoding",
        ("", "measured"),
        [
            ("tokens permuted, without positions: outputs differ by", f"{blind:.1e}"),
            ("tokens permuted, with positions added: outputs differ by", f"{sees:.2f}"),
            ("2,048 positions, 512 wide: the two nearest are apart by", f"{nearest:.2f}"),
            ("products of positions p and p + 7 differ, over p, by", f"{spread:.1e}"),
            ("position p turned by a fixed rotation misses p + 7 by", f"{off:.1e}"),
        ],
        "Without positions an encoder gives each token the same vector in any order; the "
        "sinusoidal encoding gives every position a vector of its own, and a step of a given size "
        "is the same rotation everywhere, from which relative positions can be learned.",
    )


def _norms(rng: "np.random.Generator") -> Finding:
    import numpy as np

    from keras_transformer.layers import EncoderBlock

    x = 3 * _normal(rng, 8, 10, 64) + 1
    changed = x.copy()
    changed[1:] = _normal(rng, 7, 10, 64)
    rows, found = [], {}
    for kind in ("layer", "rms", "batch"):
        block = EncoderBlock(4, 64, 128, norm=kind)
        gap = np.max(np.abs(block(x, training=True) - np.array(block(x, training=False))))
        mixed = np.max(
            np.abs(np.array(block(x, training=True))[0] - block(changed, training=True)[0])
        )
        found[kind] = gap, mixed
        rows.append((f"{kind} norm", f"{gap:.2f}", f"{mixed:.2f}"))
    return Finding(
        "An encoder block without dropout, before training",
        ("", "training less inference", "sentence 1 when the others change"),
        rows,
        "Batch norm gives a sentence another result in training than at inference (by "
        f"{found['batch'][0]:.2f}) and lets it depend on the sentences beside it (by "
        f"{found['batch'][1]:.2f}); layer norm and RMS norm look at one token and do neither.",
    )


MEASURES: dict[str, Any] = {
    "score-variance": _score_variance,
    "attention-vs-dense": _attention_vs_dense,
    "shared-queries-and-keys": _shared_queries_and_keys,
    "positions": _positions,
    "norms": _norms,
}
