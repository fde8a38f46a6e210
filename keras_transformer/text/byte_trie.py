"""Strings of bytes looked for at all places of texts at the same time, in the graph."""

from collections.abc import Sequence

from keras_transformer._tensorflow import tf
from keras_transformer.text.pair_table import PairTable
from keras_transformer.typing import Tensor


class ByteTrie:
    """A tree of strings of bytes.

    Args:
        patterns: What to look for, none of it empty. Of equal ones the first counts.
    """

    def __init__(self, patterns: Sequence[bytes]) -> None:
        edges: dict[tuple[int, int], int] = {}
        accepts = [-1]
        for i, pattern in enumerate(patterns):
            state = 0
            for byte in pattern:
                if (state, byte) not in edges:
                    edges[state, byte] = len(accepts)
                    accepts.append(-1)
                state = edges[state, byte]
            if accepts[state] < 0:
                accepts[state] = i
        self._edges = PairTable(
            [(state, byte, after) for (state, byte), after in edges.items()],
            max(len(accepts), 256),
        )
        self._accepts = tf.constant(accepts)
        self._longest = max(map(len, patterns))

    def find(self, values: Tensor, which: Tensor) -> tuple[Tensor, ...]:
        """Find the longest pattern that begins at each place and lies in one text.

        Args:
            values: Int32 `(N,)`, the bytes of all texts.
            which: Int32 `(N,)`, the text of each byte.

        Returns:
            Three int32 tensors `(M,)`: the places where a pattern begins, ascending; how many bytes
            it has; and which one it is.
        """
        none = self._edges.none
        ranks = self._edges.ranks(tf.zeros_like(values), values, tf.ones_like(values, tf.bool))
        places = tf.cast(tf.where(ranks < none)[:, 0], tf.int32)  # few, in most texts
        states = tf.gather(self._edges.merged, tf.gather(ranks, places))
        found = tf.gather(self._accepts, states)
        sizes = tf.cast(found >= 0, tf.int32)
        texts = tf.gather(which, places)
        values = tf.concat([values, tf.zeros([self._longest], tf.int32)], 0)
        which = tf.concat([which, tf.zeros([self._longest], tf.int32) - 1], 0)

        def step(
            depth: Tensor, alive: Tensor, states: Tensor, sizes: Tensor, found: Tensor
        ) -> tuple[Tensor, ...]:
            here = places + depth
            alive = tf.logical_and(alive, tf.equal(tf.gather(which, here), texts))
            ranks = self._edges.ranks(states, tf.gather(values, here), alive)
            alive = ranks < none
            states = tf.gather(self._edges.merged, ranks)
            accepted = tf.gather(self._accepts, states)
            better = tf.logical_and(alive, accepted >= 0)
            sizes = tf.where(better, depth + 1, sizes)
            return depth + 1, alive, states, sizes, tf.where(better, accepted, found)

        flat = tf.TensorShape([None])
        _, _, _, sizes, found = tf.while_loop(
            lambda depth, alive, *_: tf.logical_and(depth < self._longest, tf.reduce_any(alive)),
            step,
            [tf.constant(1), tf.ones_like(states, tf.bool), states, sizes, found],
            shape_invariants=[tf.TensorShape([]), flat, flat, flat, flat],
        )
        kept = tf.where(sizes > 0)[:, 0]
        return tuple(tf.gather(x, kept) for x in (places, sizes, found))
