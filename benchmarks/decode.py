"""Decoding, beside CTranslate2, transformers' MarianMTModel and a loop without caches.

Every engine is a process of its own with the same weights, two threads and the same sources. They
take turns, so that what disturbs the machine disturbs all of them; what counts is the ratio of
turns that follow each other. Calls are timed as a whole, from ids to ids. Before any timing every
engine's outputs are compared with ours.

    python benchmarks/decode.py [--models tiny,base] [--batches 1,8,32] [--beams 1,4]
    python benchmarks/decode.py --run RUN --source FILE

The first form decodes 24 random tokens to exactly 32. The second translates the lines of a file
with a trained run, in batches of 32 of similar length, to where each translation ends.

`savedmodel-xla` is our SavedModel exported with `jit_compile`, `savedmodel` without it.
`tflite-int8` is our `.tflite` with weights in int8, `recompute-all` greedy search with our Keras
model that runs the whole of it on the whole prefix for every token. Environment variables reach
the engines: CT2_VERBOSE=1 with SHOW=1 tells which kernels CTranslate2 has chosen.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import decode_peers as peers
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

THREADS = 2
VOCABULARY, SOURCE, LENGTH = 8000, 24, 32  # tokens of source and output, the end not among them
TEXT_BATCH = 32
EXTRA_LENGTH = 50  # a translation may be this much longer than its source, as ours may
TURN = 0.3  # seconds of calls in a turn, at least
NEAR_TIE = 1e-3  # logits this close may be ordered either way by sums in another order
BATCH_OF_SGEMM = 8  # from here on products are bound by arithmetic, below it by reading weights


class Missing(Exception):
    """Says why an engine can't decode something."""


# Our side: what is exported, and how it is called


def export_ours(model, folder, beam, length, jit_compile=False):
    """Write the SavedModel of a model from ids to ids.

    Args:
        model: A `Transformer`.
        folder: Folder to write.
        beam: Number of beams; 1 is greedy search.
        length: Exact number of tokens of every output, or None for real ends.
        jit_compile: Whether XLA compiles it where it runs.
    """
    import tensorflow as tf

    import keras_transformer as kt
    from keras_transformer.translator import append_end

    options = kt.decoding.GenerationOptions(
        beam_size=beam, length_penalty=0.0, min_length=length or 0, max_length=length
    )

    def translate(ids):
        source = append_end(ids, model.config.max_length)
        target, score = kt.decoding.generate(model, source, options, jit_compile=jit_compile)
        return {"ids": target, "score": score}

    servable = tf.Module()
    kernels = [] if model.output_kernel is None else [model.output_kernel]
    servable.weights = [weight.value for weight in (*model.weights, *kernels)]
    ids = tf.TensorSpec([None, None], tf.int32, name="ids")
    function = tf.function(translate, input_signature=[ids])
    tf.saved_model.save(servable, str(folder), {"ids": function.get_concrete_function()})


def load_ours(folder):
    """Load what `export_ours` wrote: a function from ids without ends to ids and scores."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures["ids"]

    def call(ids):
        outputs = signature(ids=tf.constant(ids))
        return outputs["ids"].numpy(), outputs["score"].numpy()

    call.owner = loaded  # a signature alone does not keep the variables
    return call


# What the engines share: a folder with the model in every form


def random_model(preset):
    """Make a model whose outputs vary from row to row and from token to token.

    With its own initial values a model repeats one token, the same for many rows. So queries and
    keys are doubled, which makes attention choose, and values and outputs multiplied by 0.7, for
    attention makes positions alike; both maps of the feed-forward networks are quadrupled, so that
    a position's own token counts, and the second has its mean over the hidden units taken out:
    these are all positive and would add the same vector everywhere. Larger factors amplify
    rounding until engines part. The special tokens' vectors are a tenth as long, so that none of
    them is ever the likeliest.
    """
    import keras

    import keras_transformer as kt

    keras.utils.set_random_seed(1)
    config = kt.models.TransformerConfig.preset(preset, VOCABULARY, max_length=128)
    model = kt.models.Transformer(config)
    for stack in ("encoder", "decoder"):
        for block in model.get_layer(stack).blocks:
            for attention in peers.ATTENTIONS[stack]:
                sublayer = getattr(block, attention).sublayer
                for name, factor in (("query", 2), ("key", 2), ("value", 0.7), ("output", 0.7)):
                    kernel = getattr(sublayer, f"{name}_projection").kernel
                    kernel.assign(factor * kernel)
            network = block.feed_forward.sublayer
            contract = keras.ops.convert_to_numpy(network.contract.kernel)
            network.expand.kernel.assign(4 * network.expand.kernel)
            network.contract.kernel.assign(4 * (contract - contract.mean(axis=0)))
    table = keras.ops.convert_to_numpy(model.get_layer("embedding").table)
    table[: peers.END + 1] *= 0.1
    model.get_layer("embedding").table.assign(table)
    return model


def prepare(folder, options):
    """Write the model for every engine, and the sources, into a folder."""
    import keras
    import tensorflow as tf

    if options.run:
        from keras_transformer.training.run_directory import RunDirectory

        run = RunDirectory.open(options.run)
        model = run.load_model()
        jobs = {"text": text_batches(run.tokenizer(), model, options.source)}
        length = None
    else:
        model = random_model(options.models)
        rows = np.random.default_rng(0).integers(4, VOCABULARY, (max(options.batches), SOURCE))
        rows = np.pad(rows, ((0, 0), (0, 1)), constant_values=peers.END)
        jobs = {f"batch {batch}": [rows[:batch]] for batch in options.batches}
        length = LENGTH
    keras.saving.save_model(model, folder / "model.keras")
    config = model.config.to_dict()
    (folder / "config.json").write_text(json.dumps({**config, "length": length}))
    weights = peers.plain_weights(model)
    np.savez(folder / "weights.npz", **weights)
    for name, batches in jobs.items():
        np.savez(folder / f"{name}.npz", *batches)
    if any(name.startswith("ctranslate2") for name in options.engines):
        with contextlib.suppress(ImportError, KeyError):  # the engine itself will say so
            peers.write_ctranslate2(weights, config, folder / "ctranslate2")
    for beam in options.beams:
        saved_model = folder / f"savedmodel-{beam}"
        if "tflite-int8" in options.engines:
            export_ours(model, saved_model, beam, length)
            converter = tf.lite.TFLiteConverter.from_saved_model(
                str(saved_model), signature_keys=["ids"]
            )
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            (folder / f"int8-{beam}.tflite").write_bytes(converter.convert())
    model.transpose_output()  # as `keras-transformer export` does for SavedModels
    for beam in options.beams:
        export_ours(model, folder / f"savedmodel-{beam}", beam, length)
        if "savedmodel-xla" in options.engines:
            export_ours(model, folder / f"savedmodel-xla-{beam}", beam, length, jit_compile=True)


def text_batches(tokenizer, model, source):
    """Cut the lines of a file into ids, ended, in batches of similar length."""
    from keras_transformer.translator import Translator

    lines = [line for line in Path(source).read_text("utf-8").split("\n") if line.strip()]
    ids, _ = Translator(model, tokenizer).tokenize(lines)
    rows = [[*row[row != 0][: model.config.max_length - 1], peers.END] for row in ids]
    rows.sort(key=len)
    batches = []
    for start in range(0, len(rows), TEXT_BATCH):
        some = rows[start : start + TEXT_BATCH]
        width = max(map(len, some))
        batches.append(np.array([[*row, *[0] * (width - len(row))] for row in some]))
    return batches


# The engines. Each returns `ready(source, beam, shortest, longest)`, which returns the call to time
# and what makes rows of ids of its result.


def _ours(folder, name, load):
    loaded = {}

    def ready(source, beam, shortest, longest):
        path = folder / name.format(beam)
        if not path.exists():
            raise Missing(f"there is no {path.name}")
        if beam not in loaded:
            loaded[beam] = load(path)
        ids = np.where(source == peers.END, peers.PADDING, source).astype("int32")
        return lambda: loaded[beam](ids), lambda outputs: outputs[0].tolist()

    return ready


def with_savedmodel(folder, config):
    """Decode with our SavedModel."""
    _limit_tensorflow()
    return _ours(folder, "savedmodel-{}", load_ours)


def with_savedmodel_xla(folder, config):
    """Decode with our SavedModel, compiled by XLA."""
    _limit_tensorflow()
    return _ours(folder, "savedmodel-xla-{}", load_ours)


def with_tflite_int8(folder, config):
    """Decode with our `.tflite`, weights in int8, activations quantised while it runs."""

    def load(path):
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(path), num_threads=THREADS).get_signature_runner("ids")

        def call(ids):
            outputs = runner(ids=ids)
            return outputs["ids"], outputs["score"]

        return call

    return _ours(folder, "int8-{}.tflite", load)


def with_ctranslate2(folder, config):
    """Decode with CTranslate2 in float32."""
    return peers.load_ctranslate2(folder / "ctranslate2", THREADS, "float32")


def with_ctranslate2_int8(folder, config):
    """Decode with CTranslate2, weights in int8."""
    return peers.load_ctranslate2(folder / "ctranslate2", THREADS, "int8")


def with_marian(folder, config):
    """Decode with MarianMTModel of transformers, on PyTorch."""
    with np.load(folder / "weights.npz") as weights:
        return peers.load_marian(dict(weights), config, THREADS)


def with_recompute_all(folder, config):
    """Decode greedily with the training graph: everything again for each token."""
    _limit_tensorflow()
    import tensorflow as tf

    model = load_model(folder)
    ids = tf.TensorSpec([None, None], tf.int32)

    @tf.function(input_signature=[ids, ids, tf.TensorSpec([None])])
    def following(source, target, never):
        logits = model({"source_ids": source, "target_ids": target}, training=False)[:, -1]
        return tf.argmax(logits + never, axis=-1, output_type=tf.int32)

    def ready(source, beam, shortest, longest):
        if beam > 1:
            raise Missing("greedy only")
        source = source.astype("int32")
        forbidden = np.zeros((2, config["vocabulary_size"]), "float32")
        forbidden[:, [peers.PADDING, peers.BEGIN]] = -1e9
        forbidden[0, peers.END] = -1e9

        def call():
            target = np.full((len(source), 1), peers.BEGIN, "int32")
            ended = np.zeros(len(source), bool)
            while target.shape[1] <= longest and not ended.all():
                never = forbidden[int(target.shape[1] > shortest)]
                chosen = following(source, target, never).numpy()
                target = np.concatenate([target, chosen[:, None]], axis=1)
                ended |= chosen == peers.END
            return target

        return call, lambda target: target[:, 1:].tolist()

    return ready


ENGINES = {
    "savedmodel-xla": with_savedmodel_xla,
    "savedmodel": with_savedmodel,
    "tflite-int8": with_tflite_int8,
    "ctranslate2": with_ctranslate2,
    "ctranslate2-int8": with_ctranslate2_int8,
    "marian": with_marian,
    "recompute-all": with_recompute_all,
}
OURS = ("savedmodel-xla", "savedmodel", "tflite-int8")
FLOAT32 = ("savedmodel-xla", "savedmodel", "ctranslate2", "marian", "recompute-all")


def _limit_tensorflow():
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)


def load_model(folder):
    """Load the Keras model."""
    import keras

    import keras_transformer.models  # noqa: F401  (registers the classes)

    return keras.saving.load_model(folder / "model.keras", compile=False)


# The machine's limits


def with_limit(folder, config):
    """Measure what the machine can read and multiply, as TensorFlow and PyTorch reach it."""
    _limit_tensorflow()
    import tensorflow as tf

    large, square = (50_000, 2000), (2048, 2048)  # 400 MB: far more than caches hold
    reads, products = [], []
    array = tf.ones(large)
    vector, a = tf.ones((large[1], 1)), tf.ones(square)
    reads.append(lambda: tf.matmul(array, vector).numpy())
    products.append(lambda: tf.matmul(a, a)[0, 0].numpy())
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(THREADS)
        tensor, thin, b = torch.ones(large), torch.ones(large[1]), torch.ones(square)
        reads.append(lambda: torch.mv(tensor, thin))
        reads.append(lambda: tensor.sum())
        products.append(lambda: torch.mm(b, b))

    def best(functions):
        return min(_seconds(function) for function in functions for _ in range(3))

    def measure():
        return {
            "bandwidth": 4 * large[0] * large[1] / best(reads),
            "sgemm": 2 * square[0] ** 3 / best(products),
        }

    return measure


def _seconds(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def weights_read(config):
    """Count the decoder's weights that a step reads: all but cross-attention's keys and values."""
    width, d_ff = config["d_model"], config["d_ff"]
    layer = 6 * width * width + 2 * width * d_ff
    return config["num_layers"] * layer + width * config["vocabulary_size"]


def work(config):
    """Count the floating-point operations of a token's matrix products in the decoder."""
    positions = (LENGTH + 1) / 2 + SOURCE + 1  # what the two attentions attend to, on average
    return 2 * weights_read(config) + 4 * config["num_layers"] * config["d_model"] * positions


def share_of_limit(config, rate, batch, beam, limit):
    """Return which part of the machine's limit tokens/s of ours are, and of which limit."""
    if batch < BATCH_OF_SGEMM:
        return 4 * weights_read(config) * rate / batch / limit["bandwidth"], "of bandwidth"
    return work(config) * beam * rate / limit["sgemm"], "of sgemm"


# One engine, told by its parent what to do


def contend(name, folder):
    """Be one engine: decode when told to, and say how long it took."""
    config = json.loads((folder / "config.json").read_text())
    answers = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer

    def answer(values):
        print(json.dumps(values), file=answers, flush=True)

    try:
        run = with_limit(folder, config) if name == "limit" else ENGINES[name](folder, config)
    except (ImportError, ValueError, RuntimeError) as error:
        answer({"missing": f"{error}"})
        return
    answer({})
    made = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if name == "limit":
            answer(run())
            continue
        cell = asked["job"], asked["beam"]
        try:
            if cell not in made:
                made[cell] = _calls(run, folder, config, *cell)
            answer((_time if asked["do"] == "time" else _outputs)(made[cell]))
        except (Missing, ValueError, RuntimeError) as error:
            answer({"missing": f"{error}"})


def _calls(ready, folder, config, job, beam):
    with np.load(folder / f"{job}.npz") as file:
        batches = [file[name] for name in file.files]
    calls = []
    for source in batches:
        longest = config["length"] or min(source.shape[1] + EXTRA_LENGTH, config["max_length"])
        calls.append(ready(source, beam, config["length"] or 0, longest))
    return calls


def _outputs(calls):
    begin = time.perf_counter()
    rows = [row for call, rows_of in calls for row in rows_of(call())]
    while time.perf_counter() - begin < 2 * TURN:  # so that it is warm for the first turn
        for call, _ in calls:
            call()
    return {"rows": [strip(row) for row in rows]}


def _time(calls):
    count, begin = 0, time.perf_counter()
    while (seconds := time.perf_counter() - begin) < TURN or not count:
        for call, _ in calls:
            call()
        count += 1
    return {"seconds": seconds / count}


def strip(row):
    """Return the tokens before the end token or the padding."""
    return list(itertools.takewhile(lambda i: i not in (peers.END, peers.PADDING), map(int, row)))


# The comparison


class Engine:
    """A process that decodes, seen from the parent."""

    def __init__(self, name, folder):
        self.name = name
        self._child = subprocess.Popen(
            [sys.executable, __file__, "--contend", name, "--folder", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("SHOW") else subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(THREADS)},
        )
        self.missing = None

    def wait(self):
        """Wait until it is ready, or says why it can't be."""
        self.missing = self._read().get("missing")

    def ask(self, **what):
        """Let it do something and return the answer."""
        if self.missing:
            return {"missing": self.missing}
        self._child.stdin.write(json.dumps(what) + "\n")
        self._child.stdin.flush()
        return self._read()

    def _read(self):
        line = self._child.stdout.readline()
        if not line:
            sys.exit(f"{self.name} has died; SHOW=1 shows why")
        return json.loads(line)

    def close(self):
        """End the process."""
        self._child.stdin.close()
        self._child.wait()


def agreement(folder, job, beam, outputs):
    """Compare every engine's outputs with those of the first that has any.

    Returns:
        By engine: the rows that are the same, the others whose first difference is a near tie, and
        all rows.
    """
    reference, expected = next(iter(outputs.items()))
    with np.load(folder / f"{job}.npz") as file:
        sources = [row[row != peers.PADDING] for name in file.files for row in file[name]]
    # Ours ends a row at its own limit, others a batch at that of its longest row.
    expected = _cut(expected, sources)
    model = None
    found = {}
    for name, rows in outputs.items():
        rows = _cut(rows, sources)
        others = [i for i, row in enumerate(rows) if row != expected[i]]
        ties = 0
        if beam == 1 and name in FLOAT32 and others:
            model = model or load_model(folder)
            ties = sum(_near_tie(model, sources[i], expected[i], rows[i]) for i in others)
            if ties < len(others):
                sys.exit(
                    f"{name} and {reference} differ in {len(others)} of {len(rows)} rows, of which "
                    f"only {ties} first differ at a near tie; these are not the same weights."
                )
        found[name] = {"same": len(rows) - len(others), "ties": ties, "rows": len(rows)}
    return found


def _cut(rows, sources):
    pairs = zip(rows, sources, strict=True)
    return [row[: len(source) + EXTRA_LENGTH] for row, source in pairs]


def _near_tie(model, source, one, other):
    """Say whether two outputs part where their tokens' logits are nearly equal."""
    pair = [[*row, peers.END] for row in (one, other)]
    at = next(i for i, (a, b) in enumerate(zip(*pair, strict=False)) if a != b)
    target = np.array([[peers.BEGIN, *one[:at]]])
    logits = model({"source_ids": source[None], "target_ids": target}, training=False)
    logits = np.array(logits)[0, -1]
    return abs(logits[pair[0][at]] - logits[pair[1][at]]) <= NEAR_TIE


def compare(folder, jobs, options):
    """Start the engines several times and let them take turns.

    Processes of the same program differ by up to a tenth for all of their life, so that each
    engine is started more than once.

    Returns:
        A list with a dict for each cell.
    """
    cells = [
        {
            "job": job,
            "beam": beam,
            "seconds": {name: [] for name in options.engines},
            "missing": {},
            "limit": [],
        }
        for job in jobs
        for beam in options.beams
    ]
    for start in range(options.starts):
        limit, *engines = (Engine(name, folder) for name in ("limit", *options.engines))
        for engine in (limit, *engines):
            engine.wait()
        for cell in cells:
            what = {"job": cell["job"], "beam": cell["beam"]}
            answers = {engine.name: engine.ask(do="decode", **what) for engine in engines}
            given = {name: a["rows"] for name, a in answers.items() if "rows" in a}
            cell["missing"] = {n: a["missing"] for n, a in answers.items() if "missing" in a}
            if not start and given:
                cell["agreement"] = agreement(folder, cell["job"], cell["beam"], given)
                cell["sentences"] = len(next(iter(given.values())))
                cell["tokens"] = {n: sum(map(len, rows)) for n, rows in given.items()}
                print(_agreement_line(cell), file=sys.stderr, flush=True)
            there = [engine for engine in engines if engine.name in given]
            for turn in range(options.rounds):
                cell["limit"].append(limit.ask())
                shift = turn % max(len(there), 1)
                for engine in there[shift:] + there[:shift]:
                    time.sleep(0.02)  # threads of the last engine may still be spinning
                    cell["seconds"][engine.name].append(engine.ask(do="time", **what)["seconds"])
        for engine in (limit, *engines):
            engine.close()
    return cells


def _agreement_line(cell):
    parts = [
        f"{name} {a['same']}/{a['rows']}" + (f" (+{a['ties']} near ties)" if a["ties"] else "")
        for name, a in cell["agreement"].items()
    ]
    return f"{cell['job']}, beam {cell['beam']}: same rows as the first: " + ", ".join(parts)


# The tables


def show(title, config, cells, engines):
    """Print the tables of one model."""
    others = [name for name in engines if name not in OURS]
    limits = [limit for cell in cells for limit in cell["limit"]]
    bandwidth = statistics.median(limit["bandwidth"] for limit in limits)
    sgemm = statistics.median(limit["sgemm"] for limit in limits)
    print(f"\n### {title}\n")
    print(f"The machine reads {bandwidth / 1e9:.1f} GB/s and multiplies {sgemm / 1e9:.0f} GFLOP/s")
    print(f"with {THREADS} threads. Ratios are medians (lowest-highest).")
    for ours in engines:
        if ours not in OURS:
            continue
        print(f"\nThe speed of {ours} to that of each:\n")
        _table(
            ["", "tokens/s", "of limit", *others],
            [
                [_name(cell), _rate(cell, ours), _share(config, cell, ours)]
                + [_ratio(cell, ours, other) for other in others]
                for cell in cells
            ],
        )
    print("\nTokens/s:\n")
    _table(
        ["", *engines],
        [[_name(cell), *(_rate(cell, name) for name in engines)] for cell in cells],
    )
    if any(cell["job"] == "text" for cell in cells):
        print("\nSentences/s:\n")
        rows = [[_name(c), *(_rate(c, n, c["sentences"]) for n in engines)] for c in cells]
        _table(["", *engines], rows)
    reasons = {
        f"{name}, beam {c['beam']}: {why}" for c in cells for name, why in c["missing"].items()
    }
    if reasons:
        print("\nMissing: " + "; ".join(sorted(reasons)) + ".")


def _table(head, rows):
    for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows):
        print(f"| {' | '.join(row)} |")


def _name(cell):
    return f"{cell['job']}, " + ("greedy" if cell["beam"] == 1 else f"beam {cell['beam']}")


def _rate(cell, name, count=None):
    if name in cell["missing"]:
        return "missing"
    return f"{(count or cell['tokens'][name]) / statistics.median(cell['seconds'][name]):,.0f}"


def _ratio(cell, ours, other):
    if ours in cell["missing"] or other in cell["missing"]:
        return "missing"
    pairs = zip(cell["seconds"][ours], cell["seconds"][other], strict=True)
    ratios = [theirs / own for own, theirs in pairs]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def _share(config, cell, ours):
    if ours in cell["missing"] or cell["job"] == "text":
        return ""
    batch = cell["sentences"]
    shares = [
        share_of_limit(config, cell["tokens"][ours] / seconds, batch, cell["beam"], limit)
        for seconds, limit in zip(cell["seconds"][ours], cell["limit"], strict=True)
    ]
    return f"{statistics.median(share for share, _ in shares):.0%} {shares[0][1]}"


def main():
    """Run all engines and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def names(text):
        return text.split(",")

    def numbers(text):
        return [int(number) for number in names(text)]

    add = parser.add_argument
    add("--models", type=names, default=["tiny", "base"], help="presets (default: tiny,base)")
    add("--batches", type=numbers, default=[1, 8, 32], help="rows a call (default: 1,8,32)")
    add("--beams", type=numbers, default=[1, 4], help="beams; 1 is greedy (default: 1,4)")
    add("--starts", type=int, default=3, help="processes of each, one by one (default: 3)")
    add("--rounds", type=int, default=5, help="turns of each process in a cell (default: 5)")
    add(
        "--engines",
        type=names,
        default=list(ENGINES),
        help="what to compare (default: %(default)s)",
    )
    add("--run", help="a trained run folder, to translate --source with")
    add("--source", help="a text file, one sentence a line")
    add("--json", type=Path, help="file to write everything measured to")
    add("--contend", help=argparse.SUPPRESS)
    add("--prepare", action="store_true", help=argparse.SUPPRESS)
    add("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.engines) - set(ENGINES):
        parser.error(f"there is no engine {', '.join(unknown)}; choose of {', '.join(ENGINES)}")
    if bool(options.run) != bool(options.source):
        parser.error("--run and --source need each other")
    if options.contend:
        contend(options.contend, options.folder)
    elif options.prepare:
        options.models = options.models[0]
        prepare(options.folder, options)
    else:
        compare_all(options)


def compare_all(options):
    """Compare the engines on every model, and show and save what came out."""
    everything = []
    for title in [options.run] if options.run else options.models:
        with tempfile.TemporaryDirectory() as folder:
            # In a process of its own, which gives back the memory that the exports took.
            given = [] if options.run else ["--models", title]
            subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], *given, "--prepare", "--folder", folder],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=None if os.environ.get("SHOW") else subprocess.DEVNULL,
            )
            folder = Path(folder)
            config = json.loads((folder / "config.json").read_text())
            jobs = ["text"] if options.run else [f"batch {batch}" for batch in options.batches]
            cells = compare(folder, jobs, options)
        show(title, config, cells, options.engines)
        everything.append({"model": title, "config": config, "cells": cells})
        if options.json:
            options.json.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
