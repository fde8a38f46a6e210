"""How much memory a training step takes: by formula before it, measured after it.

All figures are bytes. N tokens are trained on at once: rows times length, of one micro-batch on one
device.
"""

import dataclasses
import resource
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from keras_transformer._tensorflow import tf
from keras_transformer.layers import ATTENTIONS
from keras_transformer.models import TransformerConfig, parameters
from keras_transformer.models.config import StackConfig
from keras_transformer.training.config import TrainingConfig

FLOAT = 4  # weights, gradients and the optimizer's state are float32 under every precision
COPIES = {"adam": 2, "adamw": 2, "adafactor": 0}  # of the weights, in the optimizer's state


@dataclasses.dataclass(frozen=True)
class Memory:
    """The memory of a training step on one device, in bytes.

    Args:
        parameters: The weights.
        gradients: One number a weight; twice that while micro-batches are added up.
        optimizer: The optimizer's state, and the moving average of the weights if one is kept.
        activations: What the backward pass needs of the forward pass.
        logits: The scores of the vocabulary and their exponentials, float32, which the gradient of
            the loss replaces.
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """The sum of all."""
        return sum(dataclasses.astuple(self))


def estimate_memory(
    model: TransformerConfig,
    rows: int,
    length: int,
    *,
    precision: str = "float32",
    optimizer: str = "adam",
    ema: bool = False,
    accumulate: int = 1,
) -> Memory:
    """Compute the memory of a training step by formula.

    Mixed precision halves the activations, not the weights, gradients and optimizer's state, which
    stay float32: 16 bytes a weight with Adam. Accumulation and smaller batches divide activations
    and logits. Recomputation keeps one tensor a block and the inside of one block.

    Args:
        model: Configuration of the model.
        rows: Pairs in a batch on one device.
        length: Tokens in the source, and in the target.
        precision: The dtype policy.
        optimizer: "adam", "adamw" or "adafactor".
        ema: Whether a moving average of the weights is kept.
        accumulate: Number of micro-batches.
    """
    weights = count_parameters(model) * FLOAT
    tokens = -(-rows // accumulate) * length  # N
    size = FLOAT if precision == "float32" else 2
    width = model.d_model
    # Add & Norm: the dropped-out output, the sum, the normed sum, and the dropout's mask.
    add_and_norm = tokens * (3 * width * size + width)
    feed_forward = _feed_forward(model, tokens, size)
    cross = _attention(model, tokens, length, size, model.num_heads)
    itself = _self_attention(model, tokens, length, size)
    encoder_block = itself + feed_forward + 2 * add_and_norm
    decoder_block = itself + cross + feed_forward + 3 * add_and_norm
    layers, decoder_layers = model.num_layers, model.decoder_layers
    if model.recompute:
        kept = (layers + decoder_layers) * tokens * width * size
        activations = kept + max(encoder_block, decoder_block)
    else:
        activations = layers * encoder_block + decoder_layers * decoder_block
    embeddings = 2 * tokens * (2 * width * size + width)
    return Memory(
        parameters=weights,
        gradients=weights * (2 if accumulate > 1 else 1),
        optimizer=weights * (COPIES[optimizer] + int(ema)),
        activations=activations + embeddings,
        logits=2 * tokens * model.vocabulary_size * FLOAT,
    )


def _feed_forward(model: TransformerConfig, tokens: int, size: int) -> int:
    """Count the hidden layer around its activation, and with a gate, the gate and the product."""
    hidden = tokens * model.d_ff
    dropped = hidden * (size + 1) if model.ffn_dropout else 0  # the output and the mask
    return (4 if model.gated else 2) * hidden * size + dropped


def _attention(model: TransformerConfig, tokens: int, length: int, size: int, shared: int) -> int:
    """Count an attention whose keys and values have `shared` heads.

    Kept are queries, keys, values and what comes out of the heads, the softmax in float32, and the
    weights in the policy's type, which are 0 for a query that may attend to nothing.
    """
    heads = 2 * model.num_heads + 2 * shared
    scores = tokens * length * model.num_heads
    kept = scores * (FLOAT + size)
    if model.attention_dropout:
        kept += scores * (size + 1)  # the weights that are left, and the mask
    kept += scores * ATTENTIONS[model.attention].kept_per_score(model.key_width) * size
    return heads * model.key_width * tokens * size + kept


def _self_attention(model: TransformerConfig, tokens: int, length: int, size: int) -> int:
    """Count a block's attention to its own side, with what relative positions keep."""
    kept = _attention(model, tokens, length, size, model.num_kv_heads or model.num_heads)
    if model.positions == "shaw":  # scores of all distances, and the sums of weights over them
        kept += tokens * model.num_heads * (2 * model.max_distance + 1) * (size + FLOAT)
    elif model.positions == "transformer-xl":  # queries with each bias, scores of all distances
        kept += 2 * tokens * model.num_heads * model.key_width * size
        kept += tokens * model.num_heads * (2 * length - 1) * size
    return kept


def count_parameters(model: StackConfig) -> int:
    """Count a model's weights from its configuration."""
    return parameters.count_parameters(model).total


def memory_table(model: TransformerConfig, rows: int, length: int, **settings: Any) -> Table:
    """Compare a training step with itself under each technique that saves memory.

    Args:
        model: Configuration of the model.
        rows: Pairs in a batch.
        length: Tokens in each side.
        **settings: As for `estimate_memory`.
    """
    names = ("", "weights", "gradients", "optimizer", "activations", "logits", "total")
    table = Table(*names, box=None, pad_edge=False)  # narrow enough for a terminal
    half = max(1, rows // 2)
    variants: dict[str, tuple[TransformerConfig, int, dict[str, Any]]] = {
        "as asked for": (model, rows, {}),
        "half the batch": (model, half, {}),
        "4 micro-batches": (model, rows, {"accumulate": 4}),
        "mixed_bfloat16": (model, rows, {"precision": "mixed_bfloat16"}),
        "recompute": (dataclasses.replace(model, recompute=True), rows, {}),
        "adafactor": (model, rows, {"optimizer": "adafactor"}),
    }
    for name, (config, batch, changes) in variants.items():
        memory = estimate_memory(config, batch, length, **{**settings, **changes})
        table.add_row(name, *(in_words(x) for x in (*dataclasses.astuple(memory), memory.total)))
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def describe_memory(
    console: Console,
    model: TransformerConfig,
    config: TrainingConfig,
    strategy: tf.distribute.Strategy,
) -> None:
    """Print the memory that a run's largest batches will take on each device."""
    length = config.max_length
    rows = -(-config.batch_tokens // length // strategy.num_replicas_in_sync)
    memory = estimate_memory(
        model,
        max(1, rows),
        length,
        precision=config.precision,
        optimizer=config.optimizer,
        ema=bool(config.ema),
        accumulate=config.accumulate,
    )
    console.print(
        f"memory: {in_words(memory.parameters)} weights, {in_words(memory.gradients)} gradients, "
        f"{in_words(memory.optimizer)} optimizer, {in_words(memory.activations)} activations and "
        f"{in_words(memory.logits)} logits of the longest batch; {in_words(memory.total)} in all"
    )


def measured_peak() -> str:
    """Return the peak of memory in use: on a GPU, or else by this whole process."""
    if tf.config.list_physical_devices("GPU"):
        peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
        return f"memory: {in_words(peak)} measured at the peak, on the first GPU"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes
    return f"memory: {in_words(peak)} measured at the peak, by the process with all its libraries"


def in_words(count: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
