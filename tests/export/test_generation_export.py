"""Tests of exports with options of generation, of scores and alignments, and of XLA.

Also: export.saved_model, pipelines.text_writer, pipelines.translator.
"""

import json
from types import SimpleNamespace

import fixtures_generation
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from fixtures_export import exported, runtimes, trained, translator
from fixtures_generation import EMPTY, FULL, SOURCES
from fixtures_run import quiet
from keras import ops
from oracles import assert_close, shake
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from keras_transformer.artefacts.artefact import decode
from keras_transformer.decoding import (
    GenerationOptions,
    align,
    cross_attention,
    generate,
    next_token_probabilities,
    score,
)
from keras_transformer.decoding.loops import while_loop
from keras_transformer.errors import InputError
from keras_transformer.export import exporter, runtime
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.export.tflite import write
from keras_transformer.export.tflite.convert import TF_TEXT_OPS, convert
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.models.config import BEGIN_ID, END_ID
from keras_transformer.pipelines.translator import Translator

__all__ = ["exported", "runtimes", "trained", "translator"]

TEXTS = ["red cat", "", "grey tree sun blue", "naïve", "dog " * 60, "café. house", "cat cat cat"]
OPTIONS = {
    "greedy": GenerationOptions(),
    "beam": GenerationOptions(beam_size=4, num_hypotheses=2),
    "sampling": GenerationOptions(temperature=3.0, top_k=8, num_hypotheses=2, seed=5),
}
# What is made for each of them; the greedy artefacts are there already, with all signatures.
SIGNATURES = {
    "beam": ["translate"],
    "sampling": ["draft_start", "draft_step", "sample", "translate"],
}


@pytest.fixture(scope="module")
def made(request, translator, runtimes, tmp_path_factory):
    """The model with options, and both artefacts that they are part of."""
    options, artefacts = OPTIONS[request.param], {**runtimes}
    if request.param != "greedy":
        translator = Translator(translator.model, translator.tokenizer, options)
        folder = tmp_path_factory.mktemp("made")
        signatures = [*SIGNATURES[request.param], "tokenize"]
        paths = {"savedmodel": folder / "1", "tflite": folder / "model.tflite"}
        export_saved_model(translator, paths["savedmodel"], signatures)
        paths["tflite"].write_bytes(convert(paths["savedmodel"], signatures, TF_TEXT_OPS))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runtime, "_check_signatures", lambda *_: None)
            artefacts = {name: runtime.load(path) for name, path in paths.items()}
    return SimpleNamespace(translator=translator, options=options, **artefacts)


def assert_same(outputs, expected, rows):
    """Texts are equal, and scores nearly, minus infinity included."""
    assert outputs[0] == [expected[0][row] for row in rows]
    wanted = [expected[1][row] for row in rows]
    np.testing.assert_allclose(outputs[1], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("made", ["greedy", "beam", "sampling"], indirect=True)
def test_artefacts_generate_what_the_model_generates_row_by_row(made):  # D04, D05, T28
    expected = made.translator.run(TEXTS)
    for artefact in (made.savedmodel, made.tflite):
        for rows in (range(7), [4, 0, 6, 1, 3, 2, 5], [5, 1, 3], [2], [1]):
            assert_same(artefact.run([TEXTS[row] for row in rows]), expected, rows)


@pytest.mark.parametrize("made", ["greedy", "beam", "sampling"], indirect=True)
def test_options_show_in_what_is_generated(made, translator):
    texts, scores = made.translator.run(TEXTS)
    count = made.options.num_hypotheses
    assert texts[1] == [""] * count  # an empty line has one target: none
    assert scores[1][0] == 0
    full = [some for some, text in zip(texts, TEXTS, strict=True) if text]
    assert sum(len(set(some)) == count for some in full) > 3  # samples may be equal
    if made.options.samples:
        greedy, _ = translator.run(TEXTS)
        assert sum(some[0] != one[0] for some, one in zip(texts, greedy, strict=True)) > 3


@pytest.mark.parametrize("made", ["sampling"], indirect=True)
def test_artefacts_draw_what_the_model_draws_from_each_seed(made):
    def draw(some, seeds):
        outputs = some.call("sample", text=TEXTS, seed=np.array(seeds, "int32"))
        return decode(outputs["text"]), outputs["score"]

    expected = draw(made.translator, [5, 5, 1, 2, 3, 4, 5])
    for artefact in (made.savedmodel, made.tflite):
        assert_same(draw(artefact, [5, 5, 1, 2, 3, 4, 5]), expected, range(7))
    assert_same(draw(made.translator, [5] * 7), made.translator.run(TEXTS), range(7))
    assert expected[0] != draw(made.translator, [5] * 7)[0]


@pytest.mark.parametrize("made", ["greedy", "sampling"], indirect=True)
def test_a_stream_is_the_same_from_the_model_and_its_artefacts(made):
    everywhere = made.translator, made.savedmodel, made.tflite
    single = made.options.width == 1
    kind = "stream" if single else "draft"
    pieces = [[list(getattr(some, kind)(text)) for text in TEXTS] for some in everywhere]
    assert pieces[0] == pieces[1] == pieces[2]
    one = made.translator
    if not single:
        one = Translator(one.model, one.tokenizer, made.options.following_one())
    assert ["".join(some) for some in pieces[0]] == [text for (text,) in one.run(TEXTS)[0]]
    assert pieces[0][1] == [] and sum(len(some) > 2 for some in pieces[0]) >= 3
    for some in everywhere:
        other = {"stream_start", "draft_start"} - {f"{kind}_start"}
        assert f"{kind}_start" in some.signatures and not other & some.signatures
        if not single:
            with pytest.raises(InputError, match="Streaming follows one hypothesis"):
                next(some.stream("red cat"))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_options_go_into_every_artefact_and_beside_them(
    trained, tmp_path, monkeypatch, jit_compile
):
    calls, options = [], OPTIONS["beam"]

    def export(translator, path, signatures=None):
        assert translator.options == options
        table = translator.model.output_kernel is not None
        calls.append(("compiled" if translator.jit_compile else "plain", table))
        (path / "assets.extra").mkdir(parents=True)
        (path / "saved_model.pb").write_bytes(b"")

    def measure(judge, files, max_loss):
        assert judge.servable.options == options
        assert not judge.servable.jit_compile  # what is compiled is compared with what is not
        calls.append([path.name for path in files])
        return []

    monkeypatch.setattr(exporter, "export_saved_model", export)
    monkeypatch.setattr(write, "export_saved_model", export)
    monkeypatch.setattr(write, "convert", lambda *_: calls.append("convert") or b"x")
    monkeypatch.setattr(write, "add_metadata", lambda content, *_: content)
    monkeypatch.setattr(exporter, "model_card", lambda *args: {})
    monkeypatch.setattr(exporter, "measure", measure)
    exporter.export_run(
        trained.run,
        tmp_path / "new",
        quiet(),
        options,
        jit_compile=jit_compile,
        precisions=("float32",),
    )
    assert calls == [
        # LiteRT takes no graph that XLA is to compile, and phones are spared a second table.
        *(("plain", False), "convert") * 2,
        ("compiled" if jit_compile else "plain", True),
        ["savedmodel", "model.tflite", "model.ids.tflite"],
    ]
    written = json.loads((tmp_path / "new" / "generation.json").read_text())
    assert written == {**options.to_dict(), "jit_compile": jit_compile}
    assert (written["beam_size"], written["num_hypotheses"]) == (4, 2)
    assert json.loads((tmp_path / "new" / "model_card.json").read_text())["generation"] == written
    compose = (tmp_path / "new" / "compose.yaml").read_text()
    assert ("xla_cpu_compilation_enabled=true" in compose) is jit_compile


# --- Scores and alignments ------------------------------------------------------------------------

TARGETS = ["RED CAT", "X", "", "NAÏVE NAÏVE", "DOG", "CAFÉ. HOUSE " * 20, "SUN red ?"]


def ids_of(translator, texts):
    """Return what the model reads: pieces, cut to its length, and the end token, padded."""
    rows = [[*ids[:23], END_ID] for ids in translator.tokenizer.tokenize(texts).to_list()]
    return np.array([row + [0] * (24 - len(row)) for row in rows])


@pytest.mark.parametrize("name", ["keras", "savedmodel", "tflite"])
def test_the_score_of_a_target_is_that_of_the_model(runtimes, translator, name):
    sources, targets = ids_of(translator, TEXTS), ids_of(translator, TARGETS)
    expected = np.sum(score(translator.model, sources, targets), axis=1)
    for rows in (range(7), [5, 1, 2], [3]):
        texts = [[side[row] for row in rows] for side in (TEXTS, TARGETS)]
        scores, tokens, truncated = runtimes[name].score(*texts)
        np.testing.assert_allclose(scores, expected[list(rows)], rtol=1e-4, atol=1e-4)
        assert tokens.tolist() == np.count_nonzero(targets[list(rows)], axis=1).tolist()
        assert truncated.tolist() == [row in (4, 5) for row in rows]  # either side was cut
    assert np.all(expected < 0)


@pytest.mark.parametrize("name", ["keras", "savedmodel", "tflite"])
def test_alignments_are_those_of_the_model(runtimes, translator, name):  # D08
    sources, targets = ids_of(translator, TEXTS), ids_of(translator, TARGETS)
    expected = np.array(align(translator.model, sources, targets))
    for rows in (range(7), [5, 1, 2], [3]):
        texts = [[side[row] for row in rows] for side in (TEXTS, TARGETS)]
        aligned = runtimes[name].align(*texts)
        for row, one in zip(rows, aligned, strict=True):
            s, t = np.count_nonzero(sources[row]), np.count_nonzero(targets[row])
            assert one.source_ids == sources[row, :s].tolist()
            assert one.target_ids == targets[row, :t].tolist()
            assert_close(one.weights, expected[row, :t, :s], 1e-4)
            assert_close(one.weights.sum(axis=1), np.ones(t), 1e-4)


@pytest.mark.parametrize("name", ["keras", "savedmodel", "tflite"])
def test_attention_is_that_of_every_head_and_align_its_mean(runtimes, translator, name):
    sources, targets = ids_of(translator, TEXTS), ids_of(translator, TARGETS)
    expected = np.array(cross_attention(translator.model, sources, targets))
    assert expected.shape[1:3] == (1, 2)  # blocks and heads
    assert np.abs(expected[:, :, 0] - expected[:, :, 1]).max() > 0.1
    for rows in (range(7), [5, 1, 2], [3]):
        texts = [[side[row] for row in rows] for side in (TEXTS, TARGETS)]
        found = zip(runtimes[name].attention(*texts), runtimes[name].align(*texts), strict=True)
        for row, (every, mean) in zip(rows, found, strict=True):
            s, t = np.count_nonzero(sources[row]), np.count_nonzero(targets[row])
            assert every.source_ids == mean.source_ids == sources[row, :s].tolist()
            assert every.target_ids == mean.target_ids == targets[row, :t].tolist()
            assert_close(every.weights, expected[row, :, :, :t, :s], 1e-4)
            assert_close(every.weights.mean(axis=(0, 1)), mean.weights, 1e-5)


# --- Beginnings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["keras", "savedmodel", "tflite"])
def test_targets_begin_as_asked_for(runtimes, translator, name):
    prefixes = ["DOG", "", "RED", "red", "", "SUN", "CAT"]
    expected = translator.run(TEXTS, prefixes)
    texts, scores = runtimes[name].run(TEXTS, prefixes)
    assert texts == expected[0]
    np.testing.assert_allclose(scores, expected[1], rtol=1e-4, atol=1e-4)
    free = translator.run(TEXTS)[0]
    for (text,), (other,), prefix, source in zip(texts, free, prefixes, TEXTS, strict=True):
        assert not source.strip() or text.startswith(prefix)
        assert prefix or text == other


@pytest.mark.parametrize("name", ["keras", "savedmodel", "tflite"])
def test_the_next_token_is_that_of_the_model(runtimes, translator, name):  # D06
    targets = ["RED", "", "", "NAÏVE", "DOG", "CAFÉ. HOUSE", "SUN red"]
    probabilities = runtimes[name].next_token_probabilities(TEXTS, targets)
    assert_close(probabilities.sum(axis=1), np.ones(7), 1e-5)
    for row, target in enumerate(targets):
        begun = [BEGIN_ID, *translator.tokenizer.tokenize([target]).to_list()[0]]
        sources = ids_of(translator, TEXTS)[row : row + 1]
        expected = next_token_probabilities(translator.model, sources, np.array([begun]))
        assert_close(probabilities[row], np.array(expected)[0], 1e-5)


# --- The cache ------------------------------------------------------------------------------------


def test_cached_logits_equal_the_teacher_forced_pass_in_artefacts(tmp_path):  # C19, D03
    model, rng = fixtures_generation.example(), np.random.default_rng(3)
    spec = tf.TensorSpec([None, None], tf.int32)

    @tf.function(input_signature=[spec, spec], autograph=False)
    def forced(source_ids, target_ids):
        """Give tokens one by one to the step that generation takes."""
        bias, memory = model.encoder(source_ids)
        batch, length = tf.unstack(tf.shape(target_ids))
        slots = tf.range(length)

        def step(state):
            index = state["index"]
            ids = tf.slice(target_ids, [0, index], [-1, 1])
            visible = tf.reshape(slots <= index, [1, 1, -1])
            inputs = (ids, index, state["caches"], visible, bias, memory)
            logits, caches = model.decoder_step(inputs)
            logits = ops.slice_update(state["logits"], (0, index, 0), logits)
            return {"index": index + 1, "caches": caches, "logits": logits}

        start = {
            "index": tf.constant(0),
            "caches": model.empty_caches(batch, length),
            "logits": tf.zeros([batch, length, 13]),
        }
        return {"logits": while_loop(lambda state: state["index"] < length, step, start)["logits"]}

    servable = tf.Module()
    servable.weights = [weight.value for weight in model.weights]
    tf.saved_model.save(servable, str(tmp_path / "1"), {"forced": forced})
    content = convert(tmp_path / "1", ["forced"], frozenset())
    saved = tf.saved_model.load(str(tmp_path / "1")).signatures["forced"]
    lite = Interpreter(model_content=content).get_signature_runner("forced")
    for rows, length in ((range(7), 9), ([4, 0], 5), ([1], 1)):
        sources = SOURCES[list(rows)].astype("int32")
        targets = rng.integers(4, 13, (len(sources), length)).astype("int32")
        targets[:, 0] = BEGIN_ID
        expected = np.array(model({"source_ids": sources, "target_ids": targets}))
        bound = 1e-5 * np.max(np.abs(expected))
        ids = {"source_ids": sources, "target_ids": targets}
        tensors = {name: tf.constant(x) for name, x in ids.items()}
        assert_close(saved(**tensors)["logits"], expected, bound)
        assert_close(lite(**ids)["logits"], expected, bound)


# --- XLA ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["greedy", "sampling"])
def test_rounding_shapes_up_for_xla_changes_nothing(name):
    model, options = Transformer(TransformerConfig(13, 1, 2, 8, 16, max_length=9)), OPTIONS[name]
    shake(model, np.random.default_rng(1), 0.5)
    prefix = np.array([[4], [0], [0], [4], [9]])
    seeds = np.array([5, 4, 3, 2, 1], "int32") if options.samples else None
    sources = SOURCES[:5]  # five rows become eight, six columns eight; one row is empty
    expected = generate(model, sources, options, prefix, seeds)
    compiled = generate(model, sources, options, prefix, seeds, jit_compile=True)
    for one, other in zip(compiled, expected, strict=True):
        assert one.shape == other.shape
    assert np.array_equal(compiled[0], expected[0])
    assert_close(compiled[1], expected[1], 1e-4)
    assert not np.any(np.array(compiled[0])[3])
    # Nothing to do is done at once.
    ids, scores = generate(model, SOURCES[list(EMPTY)], options, jit_compile=True)
    assert not np.any(ids) and not np.any(scores)
    assert len(FULL) == 5


def is_compiled(path):
    """Whether a SavedModel asks for XLA."""
    message = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    functions = message.meta_graphs[0].graph_def.library.function
    return any(function.attr["_XlaMustCompile"].b for function in functions)


@pytest.mark.parametrize("made", ["beam"], indirect=True)
def test_a_savedmodel_compiled_by_xla_writes_the_same(made, exported, tmp_path, monkeypatch):
    some = made.translator
    compiled = Translator(some.model, some.tokenizer, made.options, jit_compile=True)
    export_saved_model(compiled, tmp_path / "1", ["translate", "tokenize"])
    assert is_compiled(tmp_path / "1") and not is_compiled(exported.paths["savedmodel"] / "1")
    monkeypatch.setattr(runtime, "_check_signatures", lambda *_: None)
    artefact = runtime.load(tmp_path / "1")
    expected = some.run(TEXTS)
    for rows in ([0, 1], [0]):  # two shapes
        assert_same(artefact.run([TEXTS[row] for row in rows]), expected, rows)
