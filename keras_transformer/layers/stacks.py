"""Stacks of blocks: the encoder and the decoder."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_transformer.layers import packing
from keras_transformer.layers.blocks import DecoderBlock, EncoderBlock
from keras_transformer.layers.layer import Layer
from keras_transformer.layers.masks import bias_of
from keras_transformer.layers.norms import make_norm
from keras_transformer.layers.recompute import recompute
from keras_transformer.typing import Bias, Cache, Config, Hidden, Mask, Shape, Size, Tensor

LAYER_ARGUMENTS = ("name", "dtype", "trainable", "autocast")  # of keras.layers.Layer itself


class _Stack(Layer):
    """`num_layers` blocks with weights of their own, and the norm that ends a pre-norm stack."""

    block_class: type

    def __init__(
        self,
        num_layers: int,
        recompute: bool = False,
        devices: Sequence[str] = (),
        positions: keras.layers.Layer | None = None,
        share_layers: bool = False,
        **kwargs: Any,
    ) -> None:
        block_arguments = {k: kwargs.pop(k) for k in list(kwargs) if k not in LAYER_ARGUMENTS}
        super().__init__(**kwargs)
        self.autocast = False  # a bias on the scores stays in float32; blocks cast their inputs
        self.num_layers = num_layers
        self.recompute = recompute
        self.devices = tuple(devices)
        self.positions = positions
        self.share_layers = share_layers
        different = [
            self.block_class(**block_arguments, dtype=self.dtype_policy, name=f"block_{i}")
            for i in range(1 if share_layers else num_layers)
        ]
        self.blocks = different * num_layers if share_layers else different
        self.block_arguments = block_arguments
        self.final_norm = None
        if block_arguments.get("norm_first"):
            self.final_norm = make_norm(
                block_arguments.get("norm", "layer"),
                block_arguments.get("epsilon", 1e-6),
                self.dtype_policy,
                "final_norm",
            )

    def build(self, inputs_shape: Shape) -> None:
        """Build every block."""
        for i, block in enumerate(self.blocks):
            with self._device(i):
                if not block.built:  # one that is shared is
                    block.build(inputs_shape)
        if self.positions is not None and not self.positions.built:
            self.positions.build()
        if self.final_norm is not None:
            self.final_norm.build(inputs_shape)

    # Keras finds out what a layer returns by running it once for nothing. A stack knows, so that a
    # model is made in a fraction of the time.

    def _like(self, inputs: Tensor) -> keras.KerasTensor:
        """Return the specification of the output: a tensor of the input's shape."""
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def _device(self, i: int) -> contextlib.AbstractContextManager[Any]:
        """Return a scope in which block i lives and computes."""
        if not self.devices:
            return contextlib.nullcontext()
        return keras.device(self.devices[i * len(self.devices) // self.num_layers])

    def _caller(self, block: keras.layers.Layer, training: bool | None) -> Callable[..., Any]:
        """Return the block, or in training what forgets its activations if that is asked for."""
        return recompute(block) if self.recompute and training else block

    def _arguments(
        self, attention_bias: Bias | None, query_positions: Tensor, key_positions: Tensor
    ) -> dict[str, Any]:
        """Return what self-attention gets of relative positions, and of a bias from outside."""
        arguments = {}
        if self.positions is not None:
            arguments = self.positions(query_positions, key_positions)
        if attention_bias is not None and "attention_bias" in arguments:
            attention_bias = attention_bias + arguments["attention_bias"]
        if attention_bias is not None:
            arguments = {**arguments, "attention_bias": attention_bias}
        return arguments

    def _finish(self, x: Hidden) -> Hidden:
        return x if self.final_norm is None else self.final_norm(x)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "recompute": self.recompute,
            "positions": keras.saving.serialize_keras_object(self.positions),
            "share_layers": self.share_layers,
            **self.block_arguments,
            "attention": keras.saving.serialize_keras_object(self.block_arguments.get("attention")),
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Rebuild the stack, and the layers that it was given."""
        given = {
            name: keras.saving.deserialize_keras_object(config.get(name))
            for name in ("positions", "attention")
        }
        return cls(**{**config, **given})


@keras.saving.register_keras_serializable("keras_transformer")
class Encoder(_Stack):
    """A stack of encoder blocks.

    Args:
        num_layers: Number of blocks N.
        recompute: Whether training computes each block's activations again for the gradient instead
            of keeping them: less memory, a third more work, the same result.
        devices: Names of devices, such as "GPU:0" and "GPU:1", that the blocks are spread over in
            order, each with its weights and the optimizer's state (model parallelism). It is not
            part of the configuration: another machine may have others.
        positions: A layer that turns the positions of queries and of keys into arguments of
            self-attention, such as `RotaryPositions` or `BucketedBias`; all blocks share it.
        share_layers: Whether all blocks are one, with the same weights, as in ALBERT and the
            Universal Transformer. Off in the standard Transformer.
        **kwargs: What `EncoderBlock` takes: `num_heads`, `d_model`, `d_ff` and the rest.

    Call arguments:
        inputs: Float tensor `(B, S, D)`, embeddings with positions.
        attention_mask: Boolean tensor `(B, S, S)` or `(B, 1, S)`, True = may attend.
        return_layers: Whether to return what every block made as well.

    Returns:
        Float tensor `(B, S, D)`: the memory, as long as the input. With `return_layers` a tuple of
        it and a list of N + 1 such tensors: the input and the output of each block.
    """

    block_class = EncoderBlock

    def call(
        self,
        inputs: Hidden,
        attention_mask: Mask | None = None,
        training: bool | None = None,
        return_layers: bool = False,
    ) -> Hidden | tuple[Hidden, list[Hidden]]:
        """Run the blocks in order."""
        places = ops.arange(ops.shape(inputs)[1], dtype="int32")
        if not return_layers and self._packs(attention_mask, training):
            assert attention_mask is not None  # or there is nothing to pack by
            packed = packing.Packing(attention_mask[:, 0])
            # A token sees at least itself, so that a bias hides as well as a mask.
            bias = ops.expand_dims(bias_of(attention_mask), 1)
            arguments = self._arguments(bias, places, places)
            with packed.used():
                x = self._run(packed.pack(inputs), training, arguments)[-1]
                x = self._finish(x)
            return packed.unpack(x)
        arguments = self._arguments(None, places, places)
        layers = self._run(inputs, training, {"attention_mask": attention_mask, **arguments})
        x = self._finish(layers[-1])
        return (x, layers) if return_layers else x

    def compute_output_spec(
        self, inputs: Hidden, *_: Any, return_layers: bool = False, **__: Any
    ) -> Any:
        """Return the specifications of the outputs without running the blocks."""
        x = self._like(inputs)
        layers = [self._like(inputs) for _ in range(self.num_layers + 1)]
        return (x, layers) if return_layers else x

    def _packs(self, mask: Mask | None, training: bool | None) -> bool:
        """Return whether tokens are packed: where it is wanted, and only padding is masked."""
        three_axes = self.block_arguments.get("norm") == "batch"  # which are all that it takes
        padding = mask is not None and mask.shape[1] == 1
        return packing.wanted() and padding and not training and not three_axes

    def _run(self, x: Hidden, training: bool | None, arguments: dict[str, Any]) -> list[Hidden]:
        """Return the input and the output of each block."""
        layers = [ops.cast(x, self.compute_dtype)]
        for i, block in enumerate(self.blocks):
            with self._device(i):
                x = self._caller(block, training)(x, **arguments)
            layers.append(x)
        return layers


@keras.saving.register_keras_serializable("keras_transformer")
class Decoder(_Stack):
    """A stack of decoder blocks.

    Args:
        num_layers: Number of blocks N.
        recompute: Whether training computes each block's activations again for the gradient instead
            of keeping them: less memory, a third more work, the same result.
        devices: Names of devices, such as "GPU:0" and "GPU:1", that the blocks are spread over in
            order, each with its weights and the optimizer's state (model parallelism). It is not
            part of the configuration: another machine may have others.
        positions: A layer that turns the positions of queries and of keys into arguments of
            self-attention, such as `RotaryPositions` or `BucketedBias`; all blocks share it.
        share_layers: Whether all blocks are one, with the same weights, as in ALBERT and the
            Universal Transformer. Off in the standard Transformer.
        **kwargs: What `DecoderBlock` takes: `num_heads`, `d_model`, `d_ff` and the rest.

    Call arguments:
        inputs: Float tensor `(B, T, D)`, embeddings with positions.
        memory: Float tensor `(B, S, D)`, the encoder's output. Not needed with `memory_caches`.
        attention_mask: Boolean tensor `(B, T, T)`, True = may attend.
        memory_mask: Boolean tensor `(B, 1, S)`, True = may attend.
        attention_bias: Float tensor added to the scores of self-attention; broadcasts to
            `(B, H, T, T)`.
        memory_bias: The same for cross-attention; broadcasts to `(B, H, T, S)`.
        memory_caches: What `cache_memory` returns: keys and values of the memory for each block.
        caches: What `empty_caches` returns: keys and values of the target for each block.
        cache_index: Integer scalar tensor: where in `caches` those of `inputs` belong.
        prefixes: What `keys_and_values` returns: keys and values for each block that come before
            all others. Masks and biases are then for them as well.
        query_positions: Integer tensor `(T,)`, or `(B, T)` if rows differ, of the inputs, for
            relative positions; 0, 1, ... if None.
        key_positions: The same of all keys.

    Returns:
        Float tensor `(B, T, D)`; with `cache_index`, followed by the new caches.
    """

    block_class = DecoderBlock

    def call(
        self,
        inputs: Hidden,
        memory: Hidden | None = None,
        attention_mask: Mask | None = None,
        memory_mask: Mask | None = None,
        attention_bias: Bias | None = None,
        memory_bias: Bias | None = None,
        memory_caches: Cache | None = None,
        caches: Cache | None = None,
        cache_index: Tensor | None = None,
        prefixes: Cache | None = None,
        query_positions: Tensor | None = None,
        key_positions: Tensor | None = None,
        training: bool | None = None,
    ) -> Hidden | tuple[Hidden, Cache]:
        """Run the blocks in order."""
        x = inputs
        new_caches = []
        if query_positions is None:
            query_positions = key_positions = ops.arange(ops.shape(inputs)[1], dtype="int32")
        arguments = self._arguments(attention_bias, query_positions, key_positions)
        for i, block in enumerate(self.blocks):
            with self._device(i):
                x = self._caller(block, training)(
                    x,
                    memory=memory,
                    attention_mask=attention_mask,
                    memory_mask=memory_mask,
                    memory_bias=memory_bias,
                    memory_cache=None if memory_caches is None else memory_caches[i],
                    cache=None if caches is None else caches[i],
                    cache_index=cache_index,
                    **({} if prefixes is None else {"prefix": prefixes[i]}),
                    **arguments,
                )
            if cache_index is not None:
                x, cache = x
                new_caches.append(cache)
        x = self._finish(x)
        return x if cache_index is None else (x, new_caches)

    def compute_output_spec(
        self,
        inputs: Hidden,
        *_: Any,
        caches: Cache | None = None,
        cache_index: Tensor | None = None,
        **__: Any,
    ) -> Any:
        """Return the specifications of the outputs without running the blocks."""
        x = self._like(inputs)
        if cache_index is None:
            return x
        return x, keras.tree.map_structure(self._like, caches)

    def cache_memory(self, memory: Hidden) -> Cache:
        """Project the memory `(B, S, D)` to the keys and values of every cross-attention.

        Returns:
            List of N tuples of keys and values, each `(B, H, S, d_k)`. They are computed once a
            source sentence, whatever the number of steps or beams.
        """
        return [block.cross_attention.sublayer.keys_and_values(memory) for block in self.blocks]

    def empty_caches(self, batch_size: Size, length: Size) -> Cache:
        """Make room for the keys and values of `length` target positions.

        Returns:
            List of N tuples of zeros, keys and values, each `(B, H, length, d_k)`.
        """
        heads, width = self.blocks[0].self_attention.sublayer.cache_shape
        shape = (batch_size, heads, length, width)
        zeros = ops.zeros(shape, dtype=self.compute_dtype)
        return [(zeros, zeros) for _ in self.blocks]

    def grow_caches(self, caches: Cache, length: Size) -> Cache:
        """Make room for the keys and values of `length` more positions, after those there are."""
        batch, heads, _, width = ops.shape(caches[0][0])
        new = ops.zeros((batch, heads, length, width), dtype=self.compute_dtype)
        return [tuple(ops.concatenate([x, new], axis=2) for x in cache) for cache in caches]
