"""The SavedModel: for TensorFlow Serving, and for any process with TensorFlow and tf.text."""

from collections.abc import Sequence
from pathlib import Path

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)

# isort: split

import tensorflow as tf

from keras_transformer.export.folder import EXTRA, TASK
from keras_transformer.files import write_json
from keras_transformer.pipelines.servable import Servable


def export_saved_model(
    servable: Servable, path: Path, signatures: Sequence[str] | None = None
) -> None:
    """Write a SavedModel of one version.

    It holds what it is for, in `assets.extra/task.json`. Signatures of what writes text:

    - `serving_default`: `text` string `(B,)` -> `text` string `(B,)`, `score` float32 `(B,)`;
    - `translate`: `text` string `(B,)` -> `text` string `(B, N)`, `score` float32 `(B, N)`, the N
      best, best first;
    - `complete`: `text` and `prefix` string `(B,)` -> as `translate`, but every text begins with
      its prefix;
    - `sample`, where the options sample: `text` string `(B,)` and `seed` int32 `(B,)` -> as
      `translate`;
    - `next_token`: `text` and `target` string `(B,)` -> `probabilities` float32 `(B, V)` of the
      token after what there is of the target;
    - `score`: `text` and `target` string `(B,)` -> `score` float32 `(B,)`, `tokens` int32 `(B,)`,
      `truncated` bool `(B,)`;
    - `align`: `text` and `target` string `(B,)` -> `source_ids` int32 `(B, S)`, `target_ids` int32
      `(B, T)`, `weights` float32 `(B, T, S)`;
    - `attention`: the same with `weights` float32 `(B, L, H, T, S)`, of every head of every block;
    - `stream_start`: `text` string `(B,)` -> the state of a search, tensors by name; and
      `stream_step`: the state -> what of it changes, and `text`, the target so far. Where the
      options ask for several hypotheses, `draft_start` and `draft_step` follow one greedily;
    - `ids`: `ids` int32 `(B, S)` -> `ids` int32 `(B, T)`, `score` float32 `(B,)`;
    - `tokenize`: `text` string `(B,)` -> `ids` int32 `(B, S)`, `truncated` bool `(B,)`.

    Options of generation are part of the graph.

    Args:
        servable: What to export.
        path: Folder of the version, such as `savedmodel/1`.
        signatures: Names of those to save; all if None.
    """
    module = tf.Module()
    # The plain variables: Keras's own archive saves each of them twice, and dropout's seeds too.
    model = servable.model
    kernel = getattr(model, "output_kernel", None)  # only what writes text may have one
    kernels = [] if kernel is None else [kernel]
    module.weights = [weight.value for weight in (*model.weights, *kernels)]
    names = sorted(servable.signatures) if signatures is None else signatures
    functions = {name: servable.function(name) for name in names}
    tf.saved_model.save(module, str(path), functions)
    (path / EXTRA).mkdir()
    write_json(path / EXTRA / TASK, servable.purpose)
