"""What every task answers to requests, wherever its model runs, right ones and wrong ones.

A server that is fed by name checks no shape: a session of the SavedModel's graph, fed as
TensorFlow Serving feeds it, and LiteRT's interpreter stand for it. What is of another rank or size
than a signature says ends in an error, and ends no process.

Also: pipelines.servable.
"""

import dataclasses
import functools
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fixtures_servables import CASES, servable, settings_of, tokenizers
from fixtures_serving import server
from tensorflow.core.protobuf import config_pb2

from keras_transformer.artefacts.artefact import decode
from keras_transformer.errors import InputError
from keras_transformer.export.runtime import SavedModel, TFLiteModel, interpreter
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.export.tflite.convert import convert
from keras_transformer.layers.caches import writing_slices
from keras_transformer.serving.client import Client
from keras_transformer.serving.versions import Model
from keras_transformer.text.masks import tokenize_with_masks
from keras_transformer.text.word_pieces import word_pieces
from keras_transformer.training.run.run_directory import RunDirectory

SHAPES = [(), (0,), (1,), (2,), (3,), (0, 0), (1, 2), (2, 0), (2, 3), (2, 40), (1, 2, 3)]
SHAPES += [(0, 0, 0), (2, 4, 4, 1), (1, 2, 3, 4, 5)]
TEXT = b"two men. a"
SEARCHES = {"serving_default", "stream_start", "stream_step", "draft_start", "draft_step"}
# Of all that texts are made with, one graph is optimised, as a server does; it takes long.
AS_MADE = {"causal-lm", "translation, samples"}
TASKS = [name for name, (_, options) in CASES.items() if options is None]
PICTURE = tf.io.encode_png(np.zeros((5, 3, 1), "uint8")).numpy()


def signatures_of(name):
    """Return the signatures to try: all, or of samples those that search."""
    found = sorted(servable(name).signatures)
    return [x for x in found if x in SEARCHES] if CASES[name][1] else found


def filled(key, spec, shape, number=5):
    """Return an array of a shape, all of one value."""
    if spec.dtype == "string":
        return np.full(shape, PICTURE if key == "image" else TEXT, object)
    return np.full(shape, bool(number > 5) if spec.dtype == "bool" else number, spec.dtype)


def good_inputs(name):
    """Return right inputs of every signature, of two rows: `{signature: (specs, arrays)}`."""
    made, found = servable(name), {}
    for signature in signatures_of(name):
        specs, arrays = made.specs(signature)[0], {}
        for key, spec in specs.items():
            shape = [2 if i == 0 else size or 3 for i, size in enumerate(spec.shape)]
            arrays[key] = filled(key, spec, shape, 1 if key == "segment_ids" else 5)
        if start := re.match("(stream|draft)_step", signature):
            arrays = made.call(f"{start[1]}_start", text=[TEXT] * 2)
        found[signature] = specs, arrays
    return found


def spoiled(specs, arrays):
    """Yield inputs of which one has another shape, or numbers that are no ids."""
    for key, spec in specs.items():
        usual = arrays[key].shape
        axes = [i for i, size in enumerate(spec.shape) if size is None]
        near = [(*usual[:i], n, *usual[i + 1 :]) for i in axes for n in (0, 1, 3, 40)]
        # A search that is taken apart has many inputs: the ranks next to the right one will do.
        ranks = SHAPES if len(specs) < 5 else [usual[1:], (2, *usual), (0,) * len(usual)]
        for shape in [*ranks, *near]:
            yield key, {**arrays, key: filled(key, spec, shape)}
        for number in (-1, 10**6) if spec.dtype != "string" else ():
            yield key, {**arrays, key: filled(key, spec, usual, number)}


def fits(specs, arrays):
    """Return whether all shapes are those of a signature, and rows are as many."""
    for key, spec in specs.items():
        if len(spec.shape) != arrays[key].ndim:
            return False
        if any(n not in (None, m) for n, m in zip(spec.shape, arrays[key].shape, strict=True)):
            return False
    return len({len(x) for x in arrays.values() if x.ndim}) <= 1


def session_of(path, optimised=True):
    """Return a function of a signature's name and its inputs that feeds as a server does."""
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = not optimised
    session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
    with session.graph.as_default():
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(path)).signature_def

    def maker(signature):
        definition = signatures[signature]
        names, fetched = sorted(definition.inputs), sorted(definition.outputs)
        options = config_pb2.CallableOptions(
            feed=[definition.inputs[name].name for name in names],
            fetch=[definition.outputs[name].name for name in fetched],
        )
        run = session._make_callable_from_options(options)
        return lambda arrays: dict(
            zip(fetched, run(*(arrays[name] for name in names)), strict=True)
        )

    return maker


def same(got, wanted):
    """Compare outputs, up to the rounding of floats."""
    assert got.keys() == wanted.keys()
    for key, values in wanted.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(got[key], values, atol=1e-4)
        else:
            np.testing.assert_array_equal(got[key], values)


@dataclasses.dataclass
class Case:
    """A servable on disk."""

    name: str
    folder: Path  # as `export` writes it: savedmodel/1, model.tflite, model.ids.tflite

    @property
    def saved_model(self):
        return self.folder / "savedmodel" / "1"

    @functools.cached_property
    def lite(self):
        """The `.tflite` files by kind."""
        paths = {}
        for kind, file in servable(self.name).lite_files.items():
            graph = self.folder / f"to-convert{kind}"
            with writing_slices():
                export_saved_model(servable(self.name), graph, file.signatures)
            paths[kind] = self.folder / ("model.ids.tflite" if kind else "model.tflite")
            paths[kind].write_bytes(convert(graph, file.signatures, file.custom_ops))
            shutil.rmtree(graph)
        return paths


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a function of a name that exports its case, once."""

    @functools.cache
    def export(name):
        made = Case(name, tmp_path_factory.mktemp("export"))
        export_saved_model(servable(name), made.saved_model, signatures_of(name))
        return made

    return export


@pytest.fixture(scope="module", params=CASES)
def case(request, folders):
    return folders(request.param)


def test_no_request_ends_a_server(case):
    name, calls, answered = case.name, 0, 0
    make = session_of(case.saved_model, name not in AS_MADE)
    for signature, (specs, arrays) in good_inputs(name).items():
        call = make(signature)
        wanted = call(arrays)
        same(wanted, servable(name).call(signature, **arrays))
        for key, wrong in spoiled(specs, arrays):
            calls += 1
            try:
                outputs = call(wrong)
            except tf.errors.InvalidArgumentError:
                continue
            answered += 1
            assert fits(specs, wrong), (signature, key, wrong[key].shape)
            if not signature.endswith(("_start", "_step")):
                assert {len(x) for x in outputs.values()} == {len(wrong[key])}
        same(call(arrays), wanted)
    assert 0 < answered < calls


@pytest.mark.parametrize("name", ["translation", "question-answering", "masked-lm"])
def test_negative_ids_are_refused_and_not_counted_from_the_end(name, tmp_path):
    path, inputs = tmp_path / "1", good_inputs(name)
    export_saved_model(servable(name), path, ["ids"])
    call, (specs, arrays) = session_of(path)("ids"), inputs["ids"]
    for key in specs:
        call(arrays)
        for number in (-1, 10**6):
            with pytest.raises(tf.errors.InvalidArgumentError, match="indices"):
                call({**arrays, key: np.full_like(arrays[key], number)})


def test_python_names_the_rank(case):
    name = case.name
    whole = [SavedModel(case.saved_model)] if name in TASKS else []
    for model in (servable(name), *whole):
        for signature, (specs, arrays) in good_inputs(name).items():
            for key, wrong in spoiled(specs, arrays):
                if fits(specs, wrong):
                    continue
                with pytest.raises(InputError, match=r"of rank \d|same number of rows") as caught:
                    model.call(signature, **wrong)
                assert key in str(caught.value) or "rows" in str(caught.value)


@pytest.mark.parametrize("case", TASKS, indirect=True)
def test_no_request_ends_a_program_with_litert(case):
    made, inputs = servable(case.name), good_inputs(case.name)
    for kind, path in case.lite.items():
        for signature in made.lite_files[kind].signatures:
            specs, arrays = inputs[signature]
            runner = interpreter(path).get_signature_runner(signature)
            wanted = runner(**arrays)
            for _, wrong in spoiled(specs, arrays):
                try:
                    runner(**wrong)
                except (RuntimeError, ValueError):
                    # LiteRT's interpreter is not to be used after an error.
                    runner = interpreter(path).get_signature_runner(signature)
            same(runner(**arrays), wanted)
    if "tokenize" in made.signatures:
        model = TFLiteModel(case.lite[""])
        specs, arrays = inputs["tokenize"]
        for _, wrong in spoiled(specs, arrays):
            if not fits(specs, wrong):
                with pytest.raises(InputError, match=r"of rank \d|same number of rows"):
                    model.call("tokenize", **wrong)
        same(model.call("tokenize", **arrays), made.call("tokenize", **arrays))


# --- Servers --------------------------------------------------------------------------------------


def run_of(name, folder):
    """Write a run folder with the servable's model."""
    made, head = servable(name), settings_of(CASES[name][0])
    config, tokenizer = made.model.config, made.tokenizer
    RunDirectory.create(folder, config, None, tokenizer, [], settings=head, weights=made.model)
    return folder


def as_lists(outputs):
    """Return arrays as a client gives them."""
    return {
        name: decode(values.tolist()) if values.dtype.kind in "OS" else values.tolist()
        for name, values in outputs.items()
    }


# A SavedModel is served as the export is that holds it: once is enough.
FORMS = [(form, task) for task in TASKS for form in ("run", "export", "tflite")]


@pytest.mark.parametrize(("form", "case"), [*FORMS, ("savedmodel", "embedding")], indirect=["case"])
def test_every_task_is_served_from_everything_by_everything(case, form, tmp_path):
    path = {
        "run": lambda: run_of(case.name, tmp_path / "run"),
        "export": lambda: case.folder,
        "savedmodel": lambda: case.saved_model,
        "tflite": lambda: case.lite[""],
    }[form]()
    options = CASES[case.name][1] if form == "run" else None
    model = Model("any", path, options)
    made, inputs = servable(case.name), good_inputs(case.name)
    with server(model) as served:
        signatures = served.model.get().model.signatures
        assert signatures >= {"pixels"} or signatures >= {"serving_default", "tokenize"}
        for address in (served.at.rest, served.at.grpc):
            with Client(address, "any") as client:
                for signature in signatures - {"stream_step", "draft_step"}:
                    arrays = inputs[signature][1]
                    got = client.predict(signature, **as_lists(arrays) | raw(arrays))
                    wanted = as_lists(made.call(signature, **arrays))
                    assert got.keys() == wanted.keys()
                    for key in wanted:
                        if isinstance(np.array(wanted[key]).flat[0], (str, np.str_)):
                            assert got[key] == wanted[key], (signature, key)
                        else:
                            np.testing.assert_allclose(got[key], wanted[key], atol=1e-4)
        status, answer = served.call("/v1/models/any:stream", {"text": "two men"})
        writes = "translate" in signatures
        assert status == (200 if writes else 404)
        assert writes or "writes no text. Ask it by :predict" in answer["error"]


def raw(arrays):
    """Return the bytes of pictures, which are no text."""
    return {name: values.tolist() for name, values in arrays.items() if name == "image"}


# --- Tokenisers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tokenizers())
def test_one_text_gives_one_row(kind, tmp_path):
    tokenizer = tokenizers()[kind]
    (row,) = tokenizer.tokenize(["two men"]).to_list()
    assert tokenizer.tokenize("two men").numpy().tolist() == row
    assert tokenizer.tokenize(tf.constant(b"two men")).numpy().tolist() == row
    assert tokenizer.detokenize(row) == tokenizer.detokenize([row])[0]
    assert tokenizer.tokenize([]).to_list() == []
    path = tmp_path / "lines.txt"
    path.write_text("two men\n\na\n")
    lines = tf.data.TextLineDataset(str(path)).map(tokenizer.tokenize)
    assert [ids.numpy().tolist() for ids in lines] == tokenizer.tokenize(
        ["two men", "", "a"]
    ).to_list()


@pytest.mark.parametrize("kind", tokenizers())
def test_tokenisers_name_a_rank_that_they_do_not_take(kind):
    tokenizer = tokenizers()[kind]
    for shape in ((1, 2), (0, 0), (1, 2, 3)):
        texts = np.full(shape, "two men", object)
        with pytest.raises(InputError, match=f"got rank {len(shape)}"):
            tokenizer.tokenize(texts)
        with pytest.raises(InputError, match=f"got rank {len(shape)}"):
            tf.function(tokenizer.tokenize)(tf.constant(texts, tf.string))
    with pytest.raises(InputError, match="takes texts"):
        tokenizer.tokenize([1, 2])
    for ids in (5, np.full((1, 2, 3), 5)):
        with pytest.raises(InputError, match=r"got rank [03]"):
            tokenizer.detokenize(ids)
    # What is traced for any rank fails when it runs.
    anything = tf.function(tokenizer.tokenize, input_signature=[tf.TensorSpec(None, tf.string)])
    assert anything(tf.constant(["two men"])).to_list() == tokenizer.tokenize(["two men"]).to_list()
    for texts in (tf.constant("two men"), tf.constant([["two men"]])):
        with pytest.raises(tf.errors.InvalidArgumentError):
            anything(texts)


@pytest.mark.parametrize("kind", tokenizers())
def test_words_masks_and_sizes_are_found_in_batches_alone(kind):
    tokenizer = tokenizers()[kind]
    functions = [lambda text: tokenize_with_masks(tokenizer, text)] * bool(tokenizer.mask_id)
    functions.append(lambda text: word_pieces(tokenizer, text))
    if hasattr(tokenizer, "tokenize_with_sizes"):
        functions.append(tokenizer.tokenize_with_sizes)
    for function in functions:
        function(["two men"])
        for texts in ("two men", [["two men"]]):
            with pytest.raises(InputError, match="batch"):
                function(texts)
