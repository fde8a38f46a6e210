"""Make the `.keras` files and the tokenisers that `tests/test_earlier_files.py` loads.

It was run at the commit 2393483, as `make_earlier.py` was:

    python tests/golden/make_earlier_models.py

Weights are random, rounded to a grid of 1/64 so that they compress well.
"""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import keras
import numpy as np
from fixtures_earlier import EARLIER, as_plain, bits_of, digest, optimizer_of, pack, weights_of
from fixtures_families import make_cases
from keras import ops

import keras_transformer as kt

V, D, T = 12, 8, 5
HERE = Path(__file__).parent
LINES = ["red cat café.", "the naïve dog, 10 x", "Red CATS sat; the dogs ran!", "el gato rojo 猫"]
STRINGS = ["Red cat, café 12", "", "naïve  dogs 猫", "[MASK] <x> the"]


def main():
    with tempfile.TemporaryDirectory() as folder:
        models, tokenizers = Path(folder) / "models", Path(folder) / "tokenizers"
        models.mkdir()
        tokenizers.mkdir()
        make_models(models)
        make_tokenizers(tokenizers)
        pack(models, EARLIER / "models.tar.xz")
        pack(tokenizers, EARLIER / "tokenizers.tar.xz")


# --- Models ---------------------------------------------------------------------------------------


def make_models(folder):
    """Save each class of model, alone and compiled, and one of every layer."""
    keras.utils.set_random_seed(1)
    cases = make_cases()
    for name, case in cases.items():
        save(folder, name, case.make(), case.inputs)
    save(
        folder,
        "mixed",
        cases["Transformer"].make(dtype="mixed_bfloat16"),
        cases["Transformer"].inputs,
    )
    for name, model in modern().items():
        save(folder, name, model, {"token_ids": np.array([[2, 5, 6, 7], [2, 9, 3, 0]], "int32")})
    for name in ("Gpt", "MaskedLanguageModel", "SentenceEncoder"):  # as graphs of plain Keras
        model = cases[name].make()
        save(folder, f"graph-{name}", keras.Model(model.inputs, model.outputs), cases[name].inputs)
    save(folder, "layers", every_layer(), inputs_of_layers())
    make_compiled(folder)
    names = registered()
    used = set()
    for path in folder.glob("*.keras"):
        text = zipfile.ZipFile(path).read("config.json").decode()
        used |= {name for name in names if f'"{name}"' in text}
        unnamed = [
            one for one in named_modules(json.loads(text)) if one["registered_name"] not in names
        ]
        assert not unnamed, f"{path.name} finds by its module, which may move: {unnamed}"
    print("registered, but in no file:", sorted(names - used))
    write(folder / "registered.json", sorted(names))


def registered():
    """Return the names that this package's classes and functions have in a `.keras` file."""
    known = keras.saving.get_custom_objects()
    return {name for name in known if name.startswith("keras_transformer>")}


def named_modules(value):
    """Yield what a configuration says of classes and functions of this package."""
    if isinstance(value, dict):
        if str(value.get("module")).startswith("keras_transformer"):
            yield {name: value.get(name) for name in ("class_name", "module", "registered_name")}
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from named_modules(one)


def save(folder, name, model, inputs, **more):
    """Save a model, and note what it gives."""
    if not getattr(model, "compiled", False):
        model.set_weights([np.round(x * 64) / 64 for x in model.get_weights()])
    model.save(folder / f"{name}.keras")
    repack(folder / f"{name}.keras")
    outputs = model(inputs)
    if not isinstance(outputs, dict):
        outputs = {"output": outputs[0] if isinstance(outputs, list) else outputs}
    outputs = {key: ops.convert_to_numpy(ops.cast(x, "float32")) for key, x in outputs.items()}
    values = {
        "inputs": as_plain(inputs),
        "outputs": as_plain(outputs),
        "weights": weights_of(model),
        **more,
    }
    write(folder / f"{name}.json", values)


def repack(path):
    """Store what is in a `.keras` file as it is, so that the archive of all compresses well."""
    with zipfile.ZipFile(path) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for name, content in contents.items():
            file.writestr(zipfile.ZipInfo(name), content)


def modern():
    """Return language models that have what the first ones lack."""
    sizes = {"num_layers": 1, "num_heads": 2, "d_model": D, "d_ff": 12, "max_length": 12}
    swiglu = {"norm": "rms", "activation": "silu", "gated": True, "use_bias": False}
    kinds = {
        "rotary": {"positions": "rotary", "num_kv_heads": 1, **swiglu},
        "alibi": {"positions": "alibi", "activation": "gelu_tanh"},
        "buckets": {"positions": "buckets", "num_buckets": 8, "max_distance": 6},
        "shaw": {"positions": "shaw", "max_distance": 3},
        "transformer-xl": {"positions": "transformer-xl"},
        "additive": {"attention": "additive", "tie_embeddings": False},
        "shared": {"num_layers": 2, "share_layers": True, "norm": "batch"},
    }
    return {
        name: kt.models.Gpt(kt.models.GptConfig(V, **{**sizes, **fields}))
        for name, fields in kinds.items()
    }


def inputs_of_layers():
    rng = np.random.default_rng(2)
    return {
        "ids": np.array([[4, 5, 6, 7, 0], [8, 9, 3, 0, 0]], "int32"),
        "x": rng.normal(size=(2, T, D)).astype("float32").round(2),
        "images": rng.uniform(-1, 1, (2, 4, 4, 1)).astype("float32").round(2),
    }


def every_layer():
    """Return a plain Keras model of the public layers, each used by itself."""
    layers = kt.layers
    ids = keras.Input((T,), dtype="int32", name="ids")
    x = keras.Input((T, D), name="x")
    images = keras.Input((4, 4, 1), name="images")
    places = ops.arange(T, dtype="int32")
    mask = layers.padding_mask(ids)
    attend = layers.attend_to(mask)

    table = layers.TokenEmbedding(V, D, name="table")
    rotation = layers.RotaryPositions(D // 2, name="rotary")(places, places)["rotation"]
    linear_bias = layers.LinearBias(2, name="linear_bias")(places, places)["attention_bias"]
    buckets = layers.BucketedBias(2, 8, 6, name="buckets")(places, places)["attention_bias"]
    distance = layers.Distances(name="distances")(places, places)["distance"]
    attention = layers.MultiHeadAttention(2, D, name="attention")
    block = {"num_heads": 2, "d_model": D, "d_ff": 6}
    stack = {**block, "num_layers": 1}
    encoder = layers.Encoder(
        **stack,
        positions=layers.BucketedBias(2, 8, 6),
        attention=layers.GroupedQueryAttention(2, D, 1),
        norm_first=True,
        name="encoder",
    )
    decoder = layers.Decoder(**stack, positions=layers.RotaryPositions(D // 2), name="decoder")
    outputs = {
        "embedding": table(ids),
        "logits": layers.OutputBias(name="bias")(table(x, reverse=True)),
        "complex": layers.ComplexEmbedding(V, D, name="complex")(ids),
        "sinusoidal": layers.SinusoidalPositions(T, name="sinusoidal")(x),
        "learned": layers.LearnedPositions(T, name="learned")(x),
        "attention": attention(x, attention_mask=attend),
        "biased": attention(x, attention_bias=linear_bias),
        "bucketed": attention(x, attention_bias=buckets),
        "rotated": attention(x, rotation=rotation),
        "additive": layers.AdditiveAttention(2, D, name="additive")(x),
        "grouped": layers.GroupedQueryAttention(2, D, 1, name="grouped")(x),
        "shared": layers.SharedProjectionAttention(2, D, share_kv=True, name="shared")(x),
        "shaw": layers.ShawAttention(2, D, max_distance=2, name="shaw")(x, distance=distance),
        "xl": layers.TransformerXLAttention(2, D, name="xl")(x, distance=distance),
        "target": layers.TargetAttention(D, 2, name="target")(x[:, 0], x, mask),
        "feed_forward": layers.FeedForward(6, D, gated=True, activation=layers.gelu_tanh)(x),
        "linear": layers.Dropout(0.5, name="dropout")(layers.Linear(3, name="linear")(x)),
        "mix": layers.LayerMix(name="mix")([x, table(ids)]),
        "encoder_block": layers.EncoderBlock(**block, name="encoder_block")(x, attend),
        "decoder_block": layers.DecoderBlock(**block, name="decoder_block")(x, x),
        "encoder": encoder(x, attention_mask=attend),
        "alibi": layers.Encoder(**stack, positions=layers.LinearBias(2), name="alibi")(x),
        "distances": layers.Encoder(
            **stack,
            positions=layers.Distances(),
            attention=layers.ShawAttention(2, D, max_distance=2),
            name="distances",
        )(x),
        "connection": layers.SublayerConnection(layers.FeedForward(6, D), name="connection")(x),
        "decoder": decoder(x, memory=x, memory_mask=attend),
        "patches": layers.ClassToken(name="first")(layers.PatchEmbedding(2, D)(images)),
    }
    return keras.Model({"ids": ids, "x": x, "images": images}, outputs)


def make_compiled(folder):
    """Save models that were compiled and trained, and note what two of them come to next."""
    training = kt.training
    cases = make_cases()
    sampling = {"prepare_inputs": training.ScheduledSampling(0.5, 9), "accumulate": 2}
    scaled = training.adamw(training.LinearDecay(0.01, 2, 9))
    compiled = {
        "adam": (
            "Transformer",
            training.paper_adam(training.InverseSquareRoot(0.01, 2)),
            {**sampling, "metrics": metrics()},
        ),
        "adamw": ("Gpt", training.adamw(training.WarmupCosine(0.01, 2, 9)), {}),
        "adafactor": ("SequenceClassifier", training.adafactor(training.Constant(0.01, 2)), {}),
        "loss-scale": ("Electra", training.LossScaleOptimizer(scaled, initial_scale=8.0), {}),
        "one-cycle": ("Gpt", training.paper_adam(training.OneCycle(0.01, 9, 0.5)), {}),
    }
    fit = {"batch_size": 4, "shuffle": False, "verbose": 0}
    for name, (of, optimizer, more) in compiled.items():
        case, path = cases[of], folder / f"compiled-{name}.keras"
        model = case.make()
        model.compile(optimizer, loss=case.loss, **more)
        model.fit(case.inputs, case.labels, epochs=2, **fit)
        noted = {
            "optimizer": bits_of(optimizer.variables),
            "configuration": optimizer_of(model),
        }
        if name in ("adam", "adafactor"):
            model.save(path)
            again = keras.models.load_model(path)
            noted["history"] = again.fit(case.inputs, case.labels, epochs=2, **fit).history
            noted["labels"] = as_plain({"labels": case.labels})
        save(folder, path.stem, model, case.inputs, **noted)


def metrics():
    return [
        kt.training.TokenCrossEntropy(),
        kt.training.Perplexity(),
        kt.training.TokenAccuracy(),
    ]


# --- Tokenisers -----------------------------------------------------------------------------------


def make_tokenizers(folder):
    """Save a tokeniser of each kind, plain and with settings of its own."""
    text = kt.text
    special = {"special_tokens": (*text.SPECIAL_TOKENS, "[MASK]")}
    merged = text.learn_byte_pairs(LINES, 300)
    bert = text.learn_bert_vocabulary(LINES, 90)
    with_added, added = [*bert, "<x>"], [text.AddedToken("<x>")]
    model = HERE / "sentencepiece.model"
    made = {
        "wordpiece": text.WordPieceTokenizer(text.learn_vocabulary(LINES, 90, **special)),
        "bert": text.BertTokenizer(bert),
        "bert-cased": text.BertTokenizer(bert, lowercase=False, chinese_characters=False),
        "bert-added": text.BertTokenizer(with_added, added_tokens=added),
        "byte-pairs": text.BytePairTokenizer(*merged),
        "byte-pairs-space": text.BytePairTokenizer(*merged, add_prefix_space=True),
        "characters": text.CharacterTokenizer(text.learn_characters(LINES, 60)),
        "words": text.WordTokenizer(text.learn_words(LINES, 60)),
        "sentencepiece": text.SentencePieceTokenizer(model.read_bytes()),
    }
    for name, tokenizer in made.items():
        text.save_tokenizer(tokenizer, folder / name)
        ids = tokenizer.tokenize(STRINGS)
        texts = [x.decode("utf-8", "surrogateescape") for x in tokenizer.detokenize(ids).numpy()]
        special_ids = {
            one: getattr(tokenizer, one)
            for one in ("padding_id", "unknown_id", "begin_id", "end_id", "mask_id")
        }
        values = {
            "kind": type(tokenizer).__name__,
            "strings": STRINGS,
            "ids": ids.to_list(),
            "texts": texts,
            "vocabulary": digest(np.array([x.encode() for x in tokenizer.vocabulary])),
            **special_ids,
        }
        write(folder / f"{name}.json", values)


def write(path, values):
    path.write_text(json.dumps(values, separators=(",", ":")), "utf-8")


if __name__ == "__main__":
    main()
