"""Parallel text as examples: pairs framed by special tokens, cut anew, with tokens missing.

`training.data.examples` makes batches of them, as it does for every task.
"""

import dataclasses
from typing import Any

from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.models.config import BEGIN_ID, END_ID, PADDING_ID, UNKNOWN_ID
from keras_transformer.text.framing import frame
from keras_transformer.training.data.augmentation import PieceDropout, token_dropout
from keras_transformer.training.data.batching import ALONE, Batching, Worker
from keras_transformer.training.data.corpora import Corpus
from keras_transformer.training.data.corpus_size import CorpusSize, count_examples
from keras_transformer.training.data.examples import (
    Corrupt,
    Vary,
    make_example_batches,
    make_example_training_batches,
)
from keras_transformer.typing import Ragged, Strings, Tensor, Tensors

SIDES = ("source_ids", "target_ids")  # the inputs, which decide the length of a pair


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The examples of a model that reads a source and writes a target.

    Teacher forcing: the decoder's input is the target shifted right by one, so that it sees the
    true tokens before the one that it is to predict.

    Args:
        tokenizer: Cuts text into ids.
        columns: The names of source and target.
        padding_id: What rows are padded with.
        begin_id: Begins the decoder's input.
        end_id: Ends sources and labels.
        source_begin_id: Begins sources; None for nothing.
        unknown_id: Stands for tokens that are dropped; None if none can be.
    """

    tokenizer: Any
    columns: tuple[str, ...] = ("source", "target")
    padding_id: int = PADDING_ID
    begin_id: int = BEGIN_ID
    end_id: int = END_ID
    source_begin_id: int | None = None
    unknown_id: int | None = UNKNOWN_ID

    def featurize(self, columns: dict[str, Strings]) -> tuple[Tensors, Ragged]:
        """Make inputs and labels of strings; see `make_example_batches`."""
        source, target = (self.tokenizer.tokenize(columns[name]) for name in self.columns)
        inputs, labels = self._frame_target(target)
        return {"source_ids": self._frame_source(source), **inputs}, labels

    def piece_dropout(self, rate: float, seed: int, max_length: int) -> Vary:
        """Return what cuts pairs anew, with some pieces missing; see `PieceDropout`."""
        thinned = PieceDropout(self.tokenizer, rate, seed)

        def vary(
            columns: dict[str, Strings], inputs: Tensors, labels: Ragged, seed: Tensor
        ) -> tuple[Tensors, Ragged]:
            source, target = (
                thinned.tokenize(columns[name], (seed[0], 2 * seed[1] + i))
                for i, name in enumerate(self.columns)
            )

            def if_it_fits(ids: Ragged, framed: Any, plain: Any) -> Any:
                fits = tf.reduce_all(ids.row_lengths() < max_length)
                return tf.cond(fits, lambda: framed, lambda: plain)

            sources = if_it_fits(source, self._frame_source(source), inputs["source_ids"])
            plain = {"target_ids": inputs["target_ids"]}, labels
            targets, labels = if_it_fits(target, self._frame_target(target), plain)
            return {"source_ids": sources, **targets}, labels

        return vary

    def token_dropout(self, rate: float) -> Corrupt:
        """Return what replaces tokens of sources by the unknown token; see `token_dropout`."""
        special = (self.padding_id, self.begin_id, self.end_id)
        if (unknown_id := self.unknown_id) is None:
            raise InputError(
                "token_dropout needs a vocabulary with an unknown token; leave it out."
            )

        def corrupt(inputs: Tensors, labels: Tensor, seed: Tensor) -> tuple[Tensors, Tensor]:
            ids = token_dropout(
                inputs["source_ids"], rate, seed, unknown_id=unknown_id, special_ids=special
            )
            return {**inputs, "source_ids": ids}, labels

        return corrupt

    def _frame_source(self, ids: Ragged) -> Ragged:
        begin = [] if self.source_begin_id is None else [self.source_begin_id]
        return frame(ids, begin, [self.end_id], keep_empty=False)

    def _frame_target(self, ids: Ragged) -> tuple[Tensors, Ragged]:
        inputs = {"target_ids": frame(ids, [self.begin_id], [], keep_empty=False)}
        return inputs, frame(ids, [], [self.end_id], keep_empty=False)


def make_batches(corpus: Corpus, tokenizer: Any, batching: Batching) -> tf.data.Dataset:
    """Make batches of the whole corpus, once, in the order of the files.

    Pairs of similar length share a batch, and a batch holds as many of them as fit into its tokens.

    Args:
        corpus: The parallel text.
        tokenizer: Cuts text into ids, such as a `WordPieceTokenizer`.
        batching: Size and length of batches.

    Returns:
        Data set of `({"source_ids": (B, S), "target_ids": (B, T)}, labels (B, T))`, int32 and
        padded with 0: source and end token, begin token and target, target and end token.
    """
    featurize = Pairs(tokenizer, corpus.columns).featurize
    return make_example_batches(
        corpus, featurize, batching, length_of=SIDES, label_padding=PADDING_ID
    )


def make_training_batches(
    corpus: Corpus,
    tokenizer: Any,
    batching: Batching,
    seed: int,
    size: CorpusSize,
    first_batch: int = 0,
    *,
    worker: Worker = ALONE,
    token_dropout: float = 0.0,
    piece_dropout: float = 0.0,
    data_service: str | None = None,
) -> tf.data.Dataset:
    """Make batches without end, shuffled anew in each epoch.

    Args:
        corpus: The parallel text.
        tokenizer: Cuts text into ids, such as a `WordPieceTokenizer`.
        batching: Size and length of batches.
        seed: Decides the order; the same seed always gives the same batches.
        size: What `measure` gave for this corpus, batching and worker.
        first_batch: Number of batches to leave out, so that a run goes on where it stopped.
        worker: Its index, and the number of workers that share the corpus. Each gets files of its
            own, or lines of its own where there are fewer files than workers.
        token_dropout: Probability that a token of the source is replaced by the unknown token.
        piece_dropout: Probability that a piece is missing when text is cut, in source and target.
        data_service: Address of a tf.data service that makes the batches, such as
            `grpc://host:5050`; `training.data.data_service` tells what is lost.

    Returns:
        Data set as `make_batches` returns.
    """
    pairs = Pairs(tokenizer, corpus.columns)
    return make_example_training_batches(
        corpus,
        pairs.featurize,
        batching,
        seed,
        size,
        first_batch,
        worker=worker,
        length_of=SIDES,
        label_padding=PADDING_ID,
        vary=pairs.piece_dropout(piece_dropout, seed, batching.max_length)
        if piece_dropout
        else None,
        corrupt=pairs.token_dropout(token_dropout) if token_dropout else None,
        data_service=data_service,
    )


def measure(
    corpus: Corpus, tokenizer: Any, batching: Batching, worker: Worker = ALONE
) -> CorpusSize:
    """Count what one epoch of parallel text delivers.

    Args:
        corpus: The parallel text.
        tokenizer: Cuts text into ids.
        batching: Size and length of batches.
        worker: Whose share of the corpus to count.

    Raises:
        InputError: If no pair is left.
    """
    featurize = Pairs(tokenizer, corpus.columns).featurize
    return count_examples(corpus, featurize, batching, worker=worker, length_of=SIDES)
