import json
import sys

import pytest
from contenders import Contender, in_turn, missing
from results import Row, beside, report, summary, table


def _rows(measured, ours=("mine",), subject="decoding", setting="tiny", **more):
    return beside(subject, setting, "tokens/s", list(ours), measured, **more)


def _lines(text):
    return [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("|")]


def test_ratios_are_of_turns_that_follow_each_other():
    # The ratio of the medians would be 1.
    (row,) = _rows({"mine": [10.0, 20.0, 60.0], "peer": [5.0, 40.0, 20.0]})
    assert row.ratios == (2.0, 0.5, 3.0)
    assert (row.own, row.theirs, row.ratio) == (20.0, 20.0, 2.0)
    assert _lines(table([row]))[2] == ["tiny", "mine", "20 tokens/s", "2.00 (0.50-3.00); 20"]


def test_above_one_is_better_also_where_less_is():
    (row,) = _rows({"mine": [1.0, 2.0], "peer": [3.0, 4.0]}, less=True)
    assert row.ratios == (3.0, 2.0)
    (row,) = _rows({"mine": [1.0, 2.0], "peer": [4.0, 4.0]})
    assert row.ratios == (0.25, 0.5)


def test_a_figure_measured_once_has_no_range():
    rows = _rows({"mine": [1234.5], "peer": [617.25]}, notes={"mine": "60% of 50 GB/s"})
    assert _lines(table(rows))[2][2:] == ["1,234 tokens/s (60% of 50 GB/s)", "2.00; 617"]


def test_ours_are_one_below_the_other_and_peers_side_by_side():
    measured = {"xla": [4.0], "plain": [2.0], "peer": [2.0], "other": [1.0]}
    rows = _rows(measured, ["xla", "plain"]) + _rows(measured, ["xla"], setting="base")
    assert _lines(table(rows)) == [
        ["", "ours", "figure", "peer", "other", "plain"],
        ["---", "---", "---:", "---:", "---:", "---:"],
        ["tiny", "xla", "4 tokens/s", "2.00; 2", "4.00; 1", ""],
        ["tiny", "plain", "2 tokens/s", "1.00; 2", "2.00; 1", ""],
        ["base", "xla", "4 tokens/s", "2.00; 2", "4.00; 1", "2.00; 2"],
    ]


def test_a_missing_peer_has_its_reason_and_the_others_their_ratios():
    rows = _rows({"mine": [4.0], "absent": "No module named 'absent'", "peer": [2.0]})
    assert _lines(table(rows))[2][3:] == ["missing: No module named 'absent'", "2.00; 2"]
    assert _lines(summary(rows))[2][3:] == ["peer, 2 tokens/s", "2.00"]


def test_a_row_without_any_peer_stays_in_the_summary():
    text = summary(_rows({"mine": [4.0], "absent": "not a\nword"}))
    assert "| absent, missing: not a word |" in text
    assert "Ours is better in 0 of 0." in text


def test_what_we_lack_is_missing_too():
    rows = _rows({"mine": "no such op", "peer": [2.0]})
    assert _lines(table(rows))[2][2:] == ["missing: no such op", "2"]


def test_the_summary_has_the_best_of_both_sides():
    measured = {"slow": [4.0, 4.0], "fast": [6.0, 6.0], "weak": [5.0, 5.0], "strong": [8.0, 12.0]}
    text = summary(_rows(measured, ["slow", "fast"]))
    assert _lines(text)[2:] == [
        ["decoding", "tiny", "fast, 6 tokens/s", "strong, 10 tokens/s", "0.62 (0.50-0.75)"]
    ]
    assert "Ours is better in 0 of 1." in text
    text = summary(_rows(measured, ["slow", "fast"], less=True))
    assert _lines(text)[2][2:] == ["slow, 4 tokens/s", "weak, 5 tokens/s", "1.25"]
    assert "Ours is better in 1 of 1." in text


def test_the_summary_compares_equal_precisions():
    measured = {"lite": [2.0], "lite-int8": [8.0], "peer": [1.0], "peer-int8": [9.0]}
    rows = _rows(measured, ["lite", "lite-int8"])
    assert [line[2].split(",")[0] for line in _lines(summary(rows))[2:]] == ["lite", "lite-int8"]
    assert [line[3].split(",")[0] for line in _lines(summary(rows))[2:]] == ["peer", "peer-int8"]


def test_the_report_has_every_subject_after_the_summary():
    rows = _rows({"mine": [1.0], "peer": [2.0]}) + _rows({"a": [1.0], "b": [1.0]}, ["a"], "size")
    text = report(rows)
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "## Summary",
        "## Decoding",
        "## Size",
    ]


def test_a_bar_in_a_reason_stays_in_its_cell():
    row = Row("size", "tiny", "MB", "mine", 1.0, "peer", "a | b")
    assert table([row]).endswith("| missing: a \\| b |")


def test_turns_begin_with_another_contender_each():
    assert [list(in_turn(["a", "b", "c"], turn)) for turn in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
    assert list(in_turn([], 1)) == []


@pytest.fixture
def contender(tmp_path, monkeypatch):
    """Starts a contender of which the body of `make` is given."""
    monkeypatch.delenv("SHOW", raising=False)
    started = []

    def start(body):
        script = tmp_path / "contender.py"
        path = [path for path in sys.path if path.endswith("benchmarks")]
        script.write_text(
            f"import sys\nsys.path += {json.dumps(path)}\nfrom contenders import contend\n"
            f"def make():\n    {body}\ncontend(make)\n"
        )
        started.append(Contender("it", str(script)))
        return started[-1]

    yield start
    for some in started:
        some.close()


def test_a_contender_answers_what_it_is_asked(contender):
    it = contender("print('noise'); return {'ready': 1}, lambda asked: {'twice': 2 * asked['x']}")
    assert it.wait() == {"ready": 1}
    assert it.ask(x=4) == {"twice": 8}


def test_a_contender_that_is_not_installed_says_so(contender):
    it = contender("import no_such_package")
    it.wait()
    assert it.ask(x=4) == {"missing": "No module named 'no_such_package'"}


def test_a_contender_that_can_not_do_one_thing_does_the_next(contender):
    it = contender("return {}, lambda asked: {'root': [4, 2].index(asked['x'])}")
    it.wait()
    assert it.ask(x=3) == {"missing": "3 is not in list"}
    assert it.ask(x=2) == {"root": 1}


def test_a_contender_that_dies_is_missing_with_its_last_words(contender):
    it = contender("return {}, lambda asked: sys.exit('out of luck')")
    it.wait()
    assert it.ask(x=3) == {"missing": "died (1): out of luck"}
    assert it.ask(x=3) == {"missing": "died (1): out of luck"}


def test_a_failure_without_words_has_the_name_of_its_kind():
    assert missing(ValueError("first\nsecond")) == {"missing": "first"}
    assert missing(MemoryError()) == {"missing": "MemoryError"}


def test_tokenising_goes_on_without_its_peer():
    import text

    def absent():
        raise ImportError("No module named 'tokenizers'")

    measured = text._in_turns((lambda: None, absent), 3, lambda now: None)
    assert len(measured[text.OURS]) == 3
    assert measured[text.PEER] == "No module named 'tokenizers'"


@pytest.fixture
def compare(monkeypatch):
    """The command, with two benchmarks that measure nothing."""
    import compare

    class Quiet:
        def __init__(self, setting):
            self.QUICK = {"setting": f"quick {setting}"}
            self._setting = setting

        def rows(self, shown, setting=None):
            with shown.subject(self._setting, 1) as step:
                step("a turn")
            return _rows({"mine": [2.0], "peer": [1.0]}, setting=setting or self._setting)

    monkeypatch.setattr(compare, "BENCHMARKS", {"one": Quiet("one"), "two": Quiet("two")})
    return compare.main


def test_the_page_is_printed_and_written(compare, tmp_path, capsys):
    path = tmp_path / "build" / "bench.md"
    assert compare(["--output", str(path)]) == 0
    out, err = capsys.readouterr()
    assert path.read_text("utf-8") == out
    assert [line[1] for line in _lines(out)[2:4]] == ["one", "two"]
    assert err.splitlines() == ["one, 1 of 1: a turn", "two, 1 of 1: a turn"]


def test_some_benchmarks_run_quickly(compare, capsys):
    compare(["--quick", "--only", "two"])
    assert _lines(capsys.readouterr().out)[2][1] == "quick two"


def test_a_benchmark_that_fails_takes_no_other_with_it(compare, monkeypatch, capsys):
    import compare as module

    def fails(shown):
        raise OSError("disk full")

    monkeypatch.setattr(module.BENCHMARKS["one"], "rows", fails)
    assert compare([]) == 1
    out = capsys.readouterr().out
    assert "one failed: OSError('disk full')" in out
    assert [line[1] for line in _lines(out)[2:3]] == ["two"]


def test_ours_that_is_missing_is_a_failure(compare, monkeypatch, capsys):
    import compare as module

    def lacks(shown):
        return _rows({"mine": "no such\nop", "other": [1.0], "peer": [2.0]}, ["mine", "other"])

    monkeypatch.setattr(module.BENCHMARKS["one"], "rows", lacks)
    assert compare([]) == 1
    out = capsys.readouterr().out
    assert out.count("decoding, tiny: mine failed: no such op") == 1
    assert "| two |" in out  # the others are there


def test_a_benchmark_alone_writes_its_tables_and_then_fails(tmp_path, capsys):
    from types import SimpleNamespace

    from progress import run_alone

    path = tmp_path / "build" / "page.md"
    measured = {"mine": [2.0], "peer": "not installed"}
    for value, error in (([2.0], None), ("broken", "decoding, tiny: mine failed: broken")):
        measured["mine"] = value
        options = SimpleNamespace(output=path)
        failed = None
        try:
            run_alone("one", lambda shown: _rows(measured), options)
        except SystemExit as exit:
            failed = exit.code
        assert failed == error
        assert path.read_text("utf-8") == capsys.readouterr().out


def test_an_unknown_benchmark_is_refused(compare, capsys):
    with pytest.raises(SystemExit):
        compare(["--only", "one,three"])
    assert "there is no three; choose of one, two" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["footprint", "decode", "embeddings", "train", "text"])
def test_quick_settings_are_options_of_every_benchmark(name):
    import inspect

    import compare

    module = compare.BENCHMARKS[name]
    inspect.signature(module.rows).bind(None, **module.QUICK)


def test_every_artefact_has_its_path(tmp_path):
    from footprint_models import path_of
    from results import Missing

    assert path_of(tmp_path, "tflite").name == "model.tflite"
    assert path_of(tmp_path, "tflite-ids-int8").name == "model.int8.ids.tflite"
    (tmp_path / "marian.missing").write_text("No module named 'torch'")
    with pytest.raises(Missing, match="torch"):
        path_of(tmp_path, "marian")


def test_vectors_that_differ_are_not_timed():
    from embeddings import check

    def turned(distance):  # from the first axis, by cosine
        return [[1 - distance, (1 - (1 - distance) ** 2) ** 0.5]]

    missing, distances = check(
        {
            "transformers": {"vectors": [[1.0, 0.0]]},
            "tflite": {"vectors": turned(5e-5)},
            "savedmodel": {"vectors": turned(2e-4)},
            "tflite-int8": {"vectors": turned(1e-2)},
            "ctranslate2-int8": {"vectors": [[float("nan"), 0.0]]},
            "onnxruntime": {"missing": "No module named 'onnxruntime'"},
        }
    )
    assert missing == {
        "onnxruntime": "No module named 'onnxruntime'",
        "savedmodel": "is 0.0002 from transformers by cosine, over 0.0001",
        "ctranslate2-int8": "is nan from transformers by cosine, over 0.02",
    }
    assert distances["tflite"] == pytest.approx(5e-5)


def test_without_the_reference_nothing_is_compared():
    from embeddings import check

    answers = {"transformers": {"missing": "why"}, "tflite": {"vectors": [[2.0, 0.0]]}}
    assert check(answers) == ({"transformers": "why"}, {})


def test_sentences_are_generated_or_read(tmp_path):
    from embeddings_models import COUNT, generated, read

    texts = generated()
    assert len(set(texts)) == COUNT
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(["", *texts, "one more"]), "utf-8")
    assert read(path) == texts
    path.write_text("one\n", "utf-8")
    with pytest.raises(ValueError, match="has 1 lines of text, and 64 are needed"):
        read(path)


def test_the_number_of_threads_that_is_faster_is_chosen():
    import time

    from embeddings_engines import fastest

    def slow(texts):
        time.sleep(0.01)

    def fast(texts):
        time.sleep(0.001)

    assert fastest([slow, fast], [["a"]]) is fast
    assert fastest([slow], [["a"]]) is slow


def test_a_form_that_could_not_be_written_says_why(tmp_path):
    from embeddings_models import CTRANSLATE2, ONNX, path_of
    from results import Missing

    (tmp_path / f"{ONNX}.missing").write_text("No module named 'onnx'")
    with pytest.raises(Missing, match="onnx"):
        path_of(tmp_path, ONNX)
    assert path_of(tmp_path, CTRANSLATE2).name == "ctranslate2"
