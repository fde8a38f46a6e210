"""The formulas that the library is compared with: a few lines of NumPy each, in float64.

They work on one sentence, `(T, D)`, and loop where the library broadcasts.
"""

import math

import numpy as np


def softmax(x):
    powers = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def attention(query, key, value, mask=None, bias=None):
    """One head, looking only at the keys that each query may attend to."""
    query, key, value = (np.asarray(x, "float64") for x in (query, key, value))
    weights = np.zeros((len(query), len(key)))
    for t, q in enumerate(query):
        allowed = [s for s in range(len(key)) if mask is None or mask[t, s]]
        scores = [q @ key[s] / math.sqrt(len(q)) for s in allowed]
        if bias is not None:
            scores = [score + bias[t, s] for score, s in zip(scores, allowed, strict=True)]
        if allowed:
            weights[t, allowed] = softmax(np.array(scores))
    return weights @ value, weights


def multi_head_attention(layer, query, source=None, mask=None):
    """Each head in its own columns of the layer's kernels, then concatenated and projected."""
    source = query if source is None else source
    q, k, v, o = (
        [w.astype("float64") for w in projection.get_weights()]
        for projection in (
            layer.query_projection,
            layer.key_projection,
            layer.value_projection,
            layer.output_projection,
        )
    )
    width = layer.d_model // layer.num_heads
    heads = []
    for head in range(layer.num_heads):
        columns = slice(head * width, (head + 1) * width)
        projected = [
            x @ kernel[:, columns] + bias[columns]
            for x, (kernel, bias) in ((query, q), (source, k), (source, v))
        ]
        heads.append(attention(*projected, mask)[0])
    return np.concatenate(heads, axis=-1) @ o[0] + o[1]


def relu(x):
    return np.maximum(x, 0)


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def feed_forward(layer, x, activation=relu):
    w1, b1, w2, b2 = (w.astype("float64") for w in layer.get_weights())
    return activation(x @ w1 + b1) @ w2 + b2


def layer_norm(x, epsilon=1e-6, gamma=1, beta=0):
    x = np.asarray(x, "float64")
    deviation = x - x.mean(axis=-1, keepdims=True)
    return deviation / np.sqrt((deviation**2).mean(axis=-1, keepdims=True) + epsilon) * gamma + beta


def sinusoidal(length, d_model):
    """Element by element, as in section 3.5 of the paper."""
    table = np.zeros((length, d_model))
    for pos in range(length):
        for i in range(d_model // 2):
            angle = pos / 10000 ** (2 * i / d_model)
            table[pos, 2 * i] = math.sin(angle)
            table[pos, 2 * i + 1] = math.cos(angle)
    return table


def cross_entropy(labels, logits, smoothing=0.0, ignore_id=0):
    """Sum over real tokens, against soft labels that are written out; and the number of tokens."""
    size = np.shape(logits)[-1]
    total = count = 0
    for label, row in zip(np.ravel(labels), np.reshape(logits, (-1, size)), strict=True):
        if label != ignore_id:
            soft = np.full(size, smoothing / size)
            soft[label] += 1 - smoothing
            total -= soft @ np.log(softmax(np.asarray(row, "float64")))
            count += 1
    return total, count


def greedy(next_logits, limit, begin_id, end_id, never=()):
    """Run `next_logits` on the whole prefix for every token; return the tokens and their score."""
    prefix, score = [begin_id], 0.0
    while len(prefix) <= limit and prefix[-1] != end_id:
        logits = np.asarray(next_logits(prefix), "float64")
        choices = [i for i in range(len(logits)) if i not in never]
        best = max(choices, key=lambda i: logits[i])  # the first of equal ones
        score += np.log(softmax(logits))[best]
        prefix.append(best)
    return prefix[1:], score


def assert_close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(
        np.asarray(actual, "float64"), np.asarray(expected, "float64"), rtol=0, atol=tolerance
    )


def largest_difference(a, b):
    return np.max(np.abs(np.asarray(a, "float64") - np.asarray(b, "float64")))


def shake(layer, rng, scale=0.3):
    """Give every weight, biases and norms too, a random value: zeros and ones hide mistakes."""
    layer.set_weights([w + scale * rng.normal(size=w.shape) for w in layer.get_weights()])
