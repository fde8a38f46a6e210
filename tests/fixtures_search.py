"""Small tables of probabilities to search, and no model."""

from types import SimpleNamespace

import numpy as np
from keras import ops

from keras_transformer.decoding import GenerationOptions, Search

PADDING, BEGIN, END, A, B, C, D, E = range(8)
NEVER = (PADDING, BEGIN)
LOW = 1e-4


def table(**rows):
    """Logits of the next token for each last one: `BEGIN={A: 0.6, B: 0.3}` are probabilities."""
    names = {"BEGIN": BEGIN, "A": A, "B": B, "C": C}
    probabilities = np.full((6, 6), LOW)
    for last, row in rows.items():
        for token, probability in row.items():
            probabilities[names[last], token] = probability
    return np.log(probabilities).astype("float32")


def random_logits(seed):
    return np.random.default_rng(seed).normal(size=(6, 6), scale=2).astype("float32")


def chain(logits, calls=None):
    """A step whose logits depend on the last token alone; its cache counts the steps."""

    def step(ids, cache, index, visible):
        if calls is not None:
            calls.append(np.array(ids).tolist())
        return ops.take(ops.convert_to_tensor(logits), ids, axis=0), cache + 1

    return step


WALK = table(BEGIN={A: 0.6, B: 0.3}, A={B: 0.7, END: 0.2}, B={END: 0.9})
ENDLESS = table(BEGIN={A: 0.6}, A={B: 0.7}, B={A: 0.9})


def search(step, limits, max_length=None, cache=None, make_room=None, padding_id=PADDING, **more):
    """Run a search; `more` are options and arguments of `run`. Return ids and scores, all of them.

    The hypotheses of a row are a list of lists, with their padding.
    """
    limits = np.array(limits, "int32")
    length = int(max(limits)) if max_length is None else max_length
    arguments = {name: more.pop(name) for name in ("finished", "prefix", "seeds") if name in more}
    options = GenerationOptions(**more)
    room = {} if make_room is None else {"make_room": make_room}
    runner = Search(step, BEGIN, END, padding_id, options, **room)
    cache = ops.zeros(len(limits), "int32") if cache is None else cache
    ids, scores = runner.run(cache, limits, length, **arguments)
    assert ids.dtype == "int32"
    assert scores.dtype == "float32"
    assert ids.shape == (len(limits), options.num_hypotheses, length)
    assert scores.shape == (len(limits), options.num_hypotheses)
    return np.array(ids).tolist(), np.array(scores)


def best(step, limits, max_length=None, **more):
    """Run a search for one hypothesis a row; return the ids and scores of rows."""
    ids, scores = search(step, limits, max_length, **more)
    return [row[0] for row in ids], scores[:, 0]


def padded(tokens, length):
    return [*tokens, *[PADDING] * (length - len(tokens))]


def forest(seed, rows, whole_prefix=True, tokens=5, exact=False, fewer=True):
    """Make a tree of probabilities for each row of a batch.

    Args:
        seed: Of the random numbers.
        rows: Number of trees.
        whole_prefix: Whether a prefix gives its next token's logits by all of its tokens, which
            `step` reads from its cache as far as they are `visible`; or by the last token and its
            position. One answer for all rows or for each.
        tokens: Number of tokens, of ids from A on.
        fewer: Whether the last ones of these are impossible in some rows.
        exact: Whether log-probabilities are small integers, so that many hypotheses are equal.

    Returns:
        A namespace of `step`, `cache(rows)` and `make_room` for a search of the trees of these
        rows, and `next_logits(row)`, a function of the prefix for an oracle.
    """
    rng = np.random.default_rng(seed)
    vocabulary, kinds = A + tokens, 4093
    if exact:  # all probability is the padding's, which is never produced
        logits = -rng.integers(800, 803, (kinds, vocabulary)).astype("float32")
        logits[:, PADDING] = 0.0
    else:
        logits = rng.normal(size=(kinds, vocabulary)).astype("float32")
        logits[:, END] -= rng.choice([0.0, 4.0], kinds)  # short ones would be the best of most
    codes = rng.integers(kinds, size=(64, vocabulary)).astype("int32")  # of positions and tokens
    starts = rng.integers(kinds, size=rows).astype("int32")
    whole = np.broadcast_to(whole_prefix, rows)
    counts = rng.integers(1, tokens + 1, rows).astype("int32")
    counts[rng.random(rows) < (0.5 if fewer else 1.0)] = tokens

    def step(ids, cache, index, visible):
        width = ids.shape[1]
        slots = ops.slice_update(cache["slots"], (0, 0, index * width), ops.expand_dims(ids, 1))
        positions = ops.arange(ops.shape(slots)[2], dtype="int32") // width
        written = ops.take(np.ravel(codes), positions * vocabulary + slots)  # (B, 1, slots)
        code = ops.where(
            ops.expand_dims(cache["whole"], 1),
            ops.sum(ops.where(visible, written, 0), axis=2),
            ops.take(np.ravel(codes), index * vocabulary + ids),
        )
        found = ops.take(logits, (code + ops.expand_dims(cache["start"], 1)) % kinds, axis=0)
        real = ops.arange(vocabulary) < A + ops.reshape(cache["count"], (-1, 1, 1))
        return ops.where(real, found, -np.inf), {**cache, "slots": slots}

    def cache(rows):
        return {
            "slots": ops.zeros((len(rows), 1, 0), "int32"),
            "whole": ops.convert_to_tensor(whole[rows]),
            "start": ops.convert_to_tensor(starts[rows]),
            "count": ops.convert_to_tensor(counts[rows]),
        }

    def make_room(cache, slots):
        new = ops.full((*ops.shape(cache["slots"])[:2], slots), A, dtype="int32")
        return {**cache, "slots": ops.concatenate([cache["slots"], new], axis=2)}

    def next_logits(row):
        def of_prefix(prefix):
            every = [int(codes[place]) for place in enumerate(prefix)]
            code = sum(every) if whole[row] else every[-1]
            found = logits[(code + starts[row]) % kinds].copy()
            found[A + counts[row] :] = -np.inf
            return found

        return of_prefix

    return SimpleNamespace(step=step, cache=cache, make_room=make_room, next_logits=next_logits)
