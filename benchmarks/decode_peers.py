"""The weights of our model in other engines: CTranslate2, and MarianMTModel of transformers.

Weights travel as a flat dict of NumPy arrays by name, such as `decoder/0/cross_attention/query/w`
(in, out) and `.../b`, so that no engine's process has to load another's libraries.
"""

from pathlib import Path

import numpy as np

PADDING, UNKNOWN, BEGIN, END = range(4)
ATTENTIONS = {"encoder": ("self_attention",), "decoder": ("self_attention", "cross_attention")}


def plain_weights(model):
    """Take the weights out of a `Transformer`."""
    from keras.ops import convert_to_numpy as array

    weights = {}

    def linear(name, layer):
        weights[f"{name}/w"], weights[f"{name}/b"] = (array(w) for w in layer.weights)

    def norm(name, layer):
        weights[f"{name}/gamma"] = array(layer.gamma)
        weights[f"{name}/beta"] = array(layer.beta)

    for stack, attentions in ATTENTIONS.items():
        for i, block in enumerate(model.get_layer(stack).blocks):
            for attention in attentions:
                sublayer = getattr(block, attention).sublayer
                for kind in ("query", "key", "value", "output"):
                    layer = getattr(sublayer, f"{kind}_projection")
                    linear(f"{stack}/{i}/{attention}/{kind}", layer)
                norm(f"{stack}/{i}/{attention}/norm", getattr(block, attention).norm)
            linear(f"{stack}/{i}/feed_forward/expand", block.feed_forward.sublayer.expand)
            linear(f"{stack}/{i}/feed_forward/contract", block.feed_forward.sublayer.contract)
            norm(f"{stack}/{i}/feed_forward/norm", block.feed_forward.norm)
        if model.config.norm_first:
            norm(f"{stack}/norm", model.get_layer(stack).final_norm)
    tied = model.config.tie_embeddings
    for side, stack in (("source", "encoder"), ("target", "decoder")):
        embedding = model.get_layer("embedding" if tied else f"{side}_embedding")
        weights[f"{stack}/table"] = array(embedding.table)
        weights[f"{stack}/positions"] = array(model.get_layer(f"{side}_positions").table)
    weights["logits"] = (
        weights["decoder/table"] if tied else array(model.get_layer("logits").kernel).T
    )
    return weights


def write_ctranslate2(weights, config, folder, quantization=None):
    """Write a CTranslate2 model; of float32 it makes int8 when it loads, if asked to.

    Args:
        weights: What `plain_weights` gives.
        config: The `TransformerConfig` as a dict.
        folder: Folder to create.
        quantization: `"float16"` or `"int8"`; float32 if None.

    Raises:
        KeyError: If CTranslate2 lacks the activation.
    """
    from ctranslate2.specs import TransformerSpec, common_spec

    # It quantises arrays where they are.
    weights = {name: array.copy() for name, array in weights.items()}
    activations = {"relu": "RELU", "gelu": "GELU", "silu": "SWISH", "swish": "SWISH"}
    spec = TransformerSpec.from_config(
        config["num_layers"],
        config["num_heads"],
        pre_norm=config["norm_first"],
        activation=common_spec.Activation[activations[config["activation"]]],
    )

    def linear(target, *names):  # several side by side, the rows of each after those of the last
        target.weight = np.concatenate([weights[f"{name}/w"].T for name in names])
        target.bias = np.concatenate([weights[f"{name}/b"] for name in names])

    def norm(target, name):
        target.gamma, target.beta = weights[f"{name}/gamma"], weights[f"{name}/beta"]

    for stack, part in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        tables = part.embeddings if stack == "encoder" else [part.embeddings]
        tables[0].weight = weights[f"{stack}/table"]
        part.scale_embeddings = config["scale_embeddings"]
        part.position_encodings.encodings = weights[f"{stack}/positions"]
        if config["norm_first"]:
            norm(part.layer_norm, f"{stack}/norm")
        for i, layer in enumerate(part.layer):
            at = f"{stack}/{i}"
            own = f"{at}/self_attention"
            linear(
                layer.self_attention.linear[0], *(f"{own}/{k}" for k in ("query", "key", "value"))
            )
            linear(layer.self_attention.linear[1], f"{own}/output")
            norm(layer.self_attention.layer_norm, f"{own}/norm")
            if stack == "decoder":
                cross = f"{at}/cross_attention"
                linear(layer.attention.linear[0], f"{cross}/query")
                linear(layer.attention.linear[1], f"{cross}/key", f"{cross}/value")
                linear(layer.attention.linear[2], f"{cross}/output")
                norm(layer.attention.layer_norm, f"{cross}/norm")
            linear(layer.ffn.linear_0, f"{at}/feed_forward/expand")
            linear(layer.ffn.linear_1, f"{at}/feed_forward/contract")
            norm(layer.ffn.layer_norm, f"{at}/feed_forward/norm")
    spec.decoder.projection.weight = weights["logits"]
    pieces = pieces_of(config["vocabulary_size"])
    spec.register_source_vocabulary(pieces)
    spec.register_target_vocabulary(pieces)
    spec.config.unk_token = pieces[UNKNOWN]
    spec.config.bos_token = spec.config.decoder_start_token = pieces[BEGIN]
    spec.config.eos_token = pieces[END]
    spec.config.add_source_eos = False  # what is given is ended already
    spec.config.layer_norm_epsilon = config["layer_norm_epsilon"]
    spec.validate()
    spec.optimize(quantization=quantization)
    Path(folder).mkdir(parents=True)
    spec.save(str(folder))


def pieces_of(vocabulary_size):
    """Name every id, as CTranslate2 takes names and no ids."""
    return ["<pad>", "<unk>", "<s>", "</s>", *map(str, range(4, vocabulary_size))]


def load_ctranslate2(folder, threads, compute_type):
    """Load what `write_ctranslate2` wrote.

    Returns:
        Function `(source, beam, shortest, longest)` of ended id rows `(B, S)` that returns another
        that translates them and returns the rows' ids: the names are made outside of the timing.
    """
    import json

    import ctranslate2

    translator = ctranslate2.Translator(
        str(folder), compute_type=compute_type, intra_threads=threads, inter_threads=1
    )
    size = len(json.loads((Path(folder) / "shared_vocabulary.json").read_text()))
    pieces = pieces_of(size)
    ids = {piece: i for i, piece in enumerate(pieces)}

    def ready(source, beam, shortest, longest):
        rows = [[pieces[i] for i in row if i != PADDING] for row in source]

        def call():
            return translator.translate_batch(
                rows,
                beam_size=beam,
                length_penalty=0,
                min_decoding_length=shortest,
                max_decoding_length=longest,
                return_scores=True,
            )

        return call, lambda results: [[ids[p] for p in r.hypotheses[0]] for r in results]

    return ready


def make_marian(weights, config):
    """Make a MarianMTModel of the weights.

    Raises:
        ValueError: If Marian has no such model.
    """
    if config["norm_first"]:
        raise ValueError("MarianMTModel is post-norm only")
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    sizes = {
        f"{stack}_{name}": config[ours]
        for stack in ("encoder", "decoder")
        for name, ours in (("layers", "num_layers"), ("attention_heads", "num_heads"))
    }
    model = transformers.MarianMTModel(
        transformers.MarianConfig(
            vocab_size=config["vocabulary_size"],
            d_model=config["d_model"],
            encoder_ffn_dim=config["d_ff"],
            decoder_ffn_dim=config["d_ff"],
            max_position_embeddings=config["max_length"],
            activation_function=config["activation"],
            scale_embedding=config["scale_embeddings"],
            share_encoder_decoder_embeddings=config["tie_embeddings"],
            tie_word_embeddings=config["tie_embeddings"],
            pad_token_id=PADDING,
            eos_token_id=END,
            bos_token_id=BEGIN,
            decoder_start_token_id=BEGIN,
            forced_eos_token_id=None,
            **sizes,
        )
    ).eval()
    state = model.state_dict()

    def put(name, array):
        state[name].copy_(torch.from_numpy(np.ascontiguousarray(array)))

    def linear(name, ours):
        put(f"{name}.weight", weights[f"{ours}/w"].T)
        put(f"{name}.bias", weights[f"{ours}/b"])

    def norm(name, ours):
        put(f"{name}.weight", weights[f"{ours}/gamma"])
        put(f"{name}.bias", weights[f"{ours}/beta"])

    names = {"self_attention": "self_attn", "cross_attention": "encoder_attn"}
    kinds = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
    for stack, attentions in ATTENTIONS.items():
        put(f"model.{stack}.embed_tokens.weight", weights[f"{stack}/table"])
        for i in range(config["num_layers"]):
            ours, theirs = f"{stack}/{i}", f"model.{stack}.layers.{i}"
            for attention in attentions:
                for kind, projection in kinds.items():
                    linear(
                        f"{theirs}.{names[attention]}.{projection}", f"{ours}/{attention}/{kind}"
                    )
                norm(f"{theirs}.{names[attention]}_layer_norm", f"{ours}/{attention}/norm")
            linear(f"{theirs}.fc1", f"{ours}/feed_forward/expand")
            linear(f"{theirs}.fc2", f"{ours}/feed_forward/contract")
            norm(f"{theirs}.final_layer_norm", f"{ours}/feed_forward/norm")
    put("lm_head.weight", weights["logits"])
    state["final_logits_bias"].zero_()
    complete_marian(model, weights, config)
    return model


def complete_marian(model, weights, config):
    """Give a MarianMTModel what its files do not keep: our positions and our epsilon."""
    import torch

    for stack in ATTENTIONS:
        positions = getattr(model.model, stack).embed_positions
        positions.weight.data.copy_(torch.from_numpy(weights[f"{stack}/positions"]))
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = config["layer_norm_epsilon"]


def ready_marian(model):
    """Return a function like that of `load_ctranslate2`."""
    import torch

    def ready(source, beam, shortest, longest):
        ids = torch.from_numpy(np.asarray(source)).long()
        mask = ids.ne(PADDING).long()

        def call():
            with torch.inference_mode():
                return model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    num_beams=beam,
                    do_sample=False,
                    min_new_tokens=shortest or None,
                    max_new_tokens=longest,
                    use_cache=True,
                    **({"length_penalty": 0.0, "early_stopping": True} if beam > 1 else {}),
                )

        return call, lambda given: [row[1:] for row in given.tolist()]  # without the begin token

    return ready
