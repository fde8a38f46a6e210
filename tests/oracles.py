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


def log_softmax(x):
    x = np.asarray(x, "float64")
    x = x - np.max(x, axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def next_tokens(logits, tokens, end_id, never=(), forced=(), min_length=0, penalty=1.0, ngram=0):
    """Return the log-probability of each token that may follow `tokens`, one rule after another."""
    shares = dict(enumerate(log_softmax(logits)))
    end = {end_id: shares[end_id]}  # where nothing else may follow
    if len(tokens) < len(forced):
        return {forced[len(tokens)]: shares[forced[len(tokens)]]}
    for token, share in list(shares.items()):
        if token in tokens:
            shares[token] = share * penalty
        too_early = token == end_id and len(tokens) + 1 < min_length
        repeats = ngram and has_ngram(tokens, ([*tokens, token])[-ngram:])
        if token in never or too_early or repeats or share == -np.inf:
            del shares[token]
    return shares or end


def has_ngram(tokens, ngram):
    n = len(ngram)
    return any(tokens[i : i + n] == ngram for i in range(len(tokens) - n + 1))


def greedy(next_logits, limit, begin_id, end_id, never=(), **rules):
    """Run `next_logits` on the whole prefix for every token; return the tokens and their score."""
    tokens, score = [], 0.0
    while len(tokens) < limit and end_id not in tokens:
        shares = next_tokens(next_logits([begin_id, *tokens]), tokens, end_id, never, **rules)
        best = max(shares, key=shares.get)  # the first of equal ones
        score += shares[best]
        tokens.append(best)
    return tokens, score


def beam_search(next_logits, limit, begin_id, end_id, width, exponent=0.0, never=(), **rules):
    """Return whatever ends on the way of the `width` best beginnings, best first.

    A list of tuples of tokens and score. The search runs to the limit whatever it has found.
    """
    live, ended = [([], 0.0)], []
    for length in range(1, limit + 1):
        penalty = ((5 + length) / 6) ** exponent
        extended = []
        for tokens, score in live:
            shares = next_tokens(next_logits([begin_id, *tokens]), tokens, end_id, never, **rules)
            extended += [([*tokens, token], score + shares[token]) for token in sorted(shares)]
        extended = best_first(extended)
        for tokens, score in extended[:width]:
            if tokens[-1] == end_id:
                ended.append((tokens, score / penalty))
        live = [one for one in extended if one[0][-1] != end_id][:width]
    ended += [(tokens, score / penalty) for tokens, score in live]
    return best_first(ended)


def best_first(hypotheses):
    return sorted(hypotheses, key=lambda hypothesis: -hypothesis[1])  # equal ones keep their order


def sequences(next_logits, limit, begin_id, end_id, exponent=0.0, never=(), tokens=(), score=0.0):
    """Enumerate whatever ends or reaches the limit, with its score; in no order."""
    if len(tokens) == limit or end_id in tokens:
        return [(list(tokens), score / ((5 + len(tokens)) / 6) ** exponent)]
    shares = next_tokens(next_logits([begin_id, *tokens]), tokens, end_id, never)
    rest = (next_logits, limit, begin_id, end_id, exponent, never)
    return [
        found
        for token, share in shares.items()
        for found in sequences(*rest, (*tokens, token), score + share)
    ]


def assert_close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(
        np.asarray(actual, "float64"), np.asarray(expected, "float64"), rtol=0, atol=tolerance
    )


def largest_difference(a, b):
    return np.max(np.abs(np.asarray(a, "float64") - np.asarray(b, "float64")))


def shake(layer, rng, scale=0.3):
    """Give every weight, biases and norms too, a random value: zeros and ones hide mistakes."""
    layer.set_weights([w + scale * rng.normal(size=w.shape) for w in layer.get_weights()])


def sampled_from(logits, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """Return the distribution that is left of one row of logits by the filters, one by one."""
    left = softmax(np.asarray(logits, "float64") / temperature)
    order = sorted(range(len(left)), key=lambda token: -left[token])  # the likeliest first
    if top_k:
        left[order[top_k:]] = 0
        left /= left.sum()
    count = next(
        n for n in range(1, len(left) + 1) if left[order[:n]].sum() >= top_p - 1e-9
    )  # the fewest that together have this probability
    left[order[count:]] = 0
    left[left < min_p * left.max()] = 0
    return left / left.sum()


def chi_squared_p(counts, probabilities):
    """Return how likely counts are to be at least this far from what is expected of them.

    Pearson's test with the approximation of Wilson and Hilferty 1931. What is expected fewer than
    five times is taken together.
    """
    counts, expected = np.asarray(counts, "float64"), np.sum(counts) * np.asarray(probabilities)
    assert not np.any(counts[expected == 0])
    rare = (expected < 5) & (expected > 0)
    pairs = [(counts[rare].sum(), expected[rare].sum())] if rare.any() else []
    pairs += [*zip(counts[expected >= 5], expected[expected >= 5], strict=True)]
    statistic = sum((count - wanted) ** 2 / wanted for count, wanted in pairs)
    freedom = len(pairs) - 1
    share = 2 / (9 * freedom)
    z = ((statistic / freedom) ** (1 / 3) - (1 - share)) / math.sqrt(share)
    return math.erfc(z / math.sqrt(2)) / 2
