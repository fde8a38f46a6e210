"""The ranks of pairs of pieces, for looking up many at a time in the graph."""

from collections.abc import Sequence

import numpy as np

from keras_transformer._tensorflow import tf
from keras_transformer.typing import Tensor


class PairTable:
    """The ranks of pairs, as a sparse matrix in one vector.

    The row of each left piece is shifted so that no two pairs meet in one place. As a place says
    whose row it is in, no pair is ever mistaken for another, and it takes three look-ups.

    Reference: Tarjan & Yao 1979, "Storing a sparse table".
    """

    def __init__(self, pairs: Sequence[tuple[int, int, int]], size: int) -> None:
        self.none = len(pairs)  # the rank of all other pairs
        # Whether what a merge gives is only merged later, as in everything that was learned.
        last: dict[int, int] = {ab: rank for rank, (_, _, ab) in enumerate(pairs)}
        self.in_order = all(
            max(last.get(a, -1), last.get(b, -1)) < rank for rank, (a, b, _) in enumerate(pairs)
        )
        left = np.array([a for a, _, _ in pairs] + [-1], np.int32)
        right = np.array([b for _, b, _ in pairs], np.int32)
        shifts, places = _shift_rows(left[:-1], right, size)
        table = np.full(size + int(shifts.max(initial=0)), self.none, np.int32)
        table[places] = np.arange(len(pairs))
        self._shifts = tf.constant(shifts, tf.int32)
        self._table = tf.constant(table)
        self._left = tf.constant(left)
        self.merged = tf.constant([ab for _, _, ab in pairs] + [0], tf.int32)

    def ranks(self, left: Tensor, right: Tensor, real: Tensor) -> Tensor:
        """Return the ranks of pairs of int32 ids `(N,)`, and `none` where there is none."""
        ranks = tf.gather(self._table, tf.gather(self._shifts, left) + right)
        real = tf.logical_and(real, tf.equal(tf.gather(self._left, ranks), left))
        return tf.where(real, ranks, tf.constant(self.none))


def _shift_rows(left: np.ndarray, right: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Find a shift for each row so that all entries have places of their own: first fit."""
    order = np.argsort(left, kind="stable")
    rows, begins = np.unique(left[order], return_index=True)
    members = np.split(order, begins[1:])
    shifts = np.zeros(size, np.int64)
    used = np.zeros(2 * len(left) + 2 * size + 64, bool)
    places = np.zeros(len(left), np.int64)
    free = 0  # all places before it are taken
    # The long ones first, while there is room.
    for i in sorted(range(len(rows)), key=lambda i: (-len(members[i]), i)):
        columns = right[members[i]]
        start = max(0, free - int(columns.min()))
        while True:
            while start + 1024 + size > len(used):
                used = np.concatenate([used, np.zeros_like(used)])
            tries = np.arange(start, start + 1024)
            taken = np.zeros(1024, bool)
            for column in columns:
                taken |= used[column + start : column + start + 1024]
            if not taken.all():
                break
            start += 1024
        shift = int(tries[int(np.argmin(taken))])
        shifts[rows[i]] = shift
        places[members[i]] = columns + shift
        used[columns + shift] = True
        while used[free]:
            free += 1
    return shifts, places
