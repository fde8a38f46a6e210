"""Tests of keras_transformer.text.hugging_face: ids are the reference's, or a file is refused.

Also: text.hugging_face.byte_level, text.hugging_face.components, text.hugging_face.fields,
text.hugging_face.framing, text.hugging_face.model_files, text.hugging_face.settings,
text.hugging_face.unigram, text.hugging_face.wordpiece.
"""

import functools
import json

import pytest
import tensorflow as tf
from fixtures_published import CASES, CONFIG, FILE, GOLDEN, config_of, put, together, write
from fixtures_text import lite

from keras_transformer.errors import InputError
from keras_transformer.text import load_tokenizer, save_tokenizer
from keras_transformer.text.hugging_face import read_tokenizer
from keras_transformer.text.sentencepiece_model import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    read_model,
    write_model,
)
from keras_transformer.training.run.importing import read_tokenizer as import_tokenizer

ROLES = ("padding_id", "unknown_id", "begin_id", "end_id", "mask_id")
ON_A_PHONE = ("bert", "unigram of transformers 4")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Tokenisers of the cases, each read when it is asked for first."""
    return functools.cache(
        lambda name: read_tokenizer(write(name, tmp_path_factory.mktemp("made")), config_of(name))
    )


def settings_of(tokenizer):
    return tokenizer.vocabulary, tokenizer.settings, [getattr(tokenizer, role) for role in ROLES]


@pytest.mark.parametrize("name", CASES)
def test_ids_are_those_of_the_reference(made, name, tmp_path):
    case, tokenizer = CASES[name], made(name)
    assert tokenizer.tokenize(tf.constant(case["texts"])).to_list() == case["ids"]
    save_tokenizer(tokenizer, tmp_path / "run")
    assert settings_of(load_tokenizer(tmp_path / "run")) == settings_of(tokenizer)
    if name in ON_A_PHONE:
        phone = lite(tokenizer, tmp_path)
        assert phone.tokenize(case["texts"]) == case["ids"]
        assert [phone.tokenize([text])[0] for text in case["texts"]] == case["ids"]
        rows = tf.ragged.constant(case["ids"], dtype=tf.int32)
        assert phone.detokenize(case["ids"]) == tokenizer.detokenize(rows).numpy().tolist()


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("bert", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]),
        ("mpnet", ["<pad>", "[UNK]", "<s>", "</s>", "<mask>"]),
        ("roberta", ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]),
        ("gpt2", [None, None, "<|endoftext|>", "<|endoftext|>", None]),
        ("t5", ["<pad>", "<unk>", None, "</s>", None]),
        ("xlm-roberta", ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]),
        ("marian", ["<pad>", "<unk>", None, "</s>", None]),
    ],
)
def test_special_tokens_are_found_by_role_and_never_in_text(made, name, names):  # K11
    tokenizer = made(name)
    ids = [getattr(tokenizer, role) for role in ROLES]
    assert [None if i is None else tokenizer.vocabulary[i] for i in ids] == names
    text = " ".join(name for name in names if name)
    (found,) = tokenizer.tokenize([f"{text} {text.replace(' ', '')}"]).to_list()
    assert not {i for i in ids if i is not None and i != tokenizer.unknown_id} & set(found)


def test_tokens_with_a_name_of_their_own_in_the_files_are_special(made, tmp_path):
    change = put(f"{CONFIG}/eos_token", "<left>")  # beside sep_token, which ends texts
    tokenizer = read_tokenizer(write("bert", tmp_path, change), config_of("bert"))
    gone = {t.content for t in made("bert").added_tokens} - {
        t.content for t in tokenizer.added_tokens
    }
    assert gone == {"<left>"}
    assert tokenizer.vocabulary.index("<left>") not in tokenizer.tokenize(["<left>"]).values.numpy()


# --- What is refused ------------------------------------------------------------------------------

MODEL, NORMALIZER, SPLITTER, FRAME = (
    f"{FILE}/{part}" for part in ("model", "normalizer", "pre_tokenizer", "post_processor")
)
TEMPLATE = {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}
CHARSMAP = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        # The settings beside the vocabulary.
        ("bert", f"{CONFIG}/new_field", "x", 'tokenizer_config.json: new_field is "x"'),
        ("bert", f"{CONFIG}/new_field", False, "new_field is false"),
        ("bert", f"{CONFIG}/never_split", ["a"], "never_split has 'a'"),
        ("bert", f"{CONFIG}/do_basic_tokenize", False, "do_basic_tokenize is false"),
        ("bert", f"{CONFIG}/split_special_tokens", True, "split_special_tokens is true"),
        ("bert", f"{CONFIG}/tokenizer_class", "OwnTokenizer", "tokenizer_class is 'OwnTokenizer'"),
        ("bert", f"{CONFIG}/do_lower_case", "yes", 'do_lower_case is "yes"'),
        ("bert", f"{CONFIG}/do_lower_case", False, "lowercase True, but .* says False"),
        ("bert", f"{CONFIG}/strip_accents", False, "strip_accents True, but .* says False"),
        ("bert", f"{CONFIG}/tokenize_chinese_chars", False, "chinese_characters True, but"),
        ("bert", f"{CONFIG}/unk_token", "[CLS]", r"unk_token '\[UNK\]', but .* '\[CLS\]'"),
        ("bert", f"{CONFIG}/mask_token", "[M]", r"no \[M\]"),
        ("bert", f"{CONFIG}/auto_map", {"a": 1}, "auto_map"),
        ("bert", "special_tokens_map.json", {"pad_token": "[X]"}, r"pad_token is '\[X\]', but"),
        ("bert", "special_tokens_map.json", {"own": "[X]"}, 'own is "\\[X\\]"'),
        ("bert", "added_tokens.json", {"more": 9999}, "'more' has the id 9999, but there are only"),
        ("bert", "added_tokens.json", {"word": 3}, "'word' has the id 177, but 3 in"),
        ("bert", "added_tokens.json", {"word": "3"}, "word is"),
        ("bert", f"{CONFIG}/extra_special_tokens", ["<gone>"], "'<gone>' has no id"),
        ("bert", f"{CONFIG}/added_tokens_decoder", {"a": {}}, "added_tokens_decoder: a is no id"),
        ("bert", "sentence_bert_config.json", {"lower": 1}, "lower is 1"),
        ("gpt2", f"{CONFIG}/add_prefix_space", True, "add_prefix_space False, but .* says True"),
        ("gpt2", f"{CONFIG}/add_bos_token", True, "add_bos_token is true"),
        ("gpt2", "sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case is true"),
        ("t5", f"{CONFIG}/sp_model_kwargs", {"nbest_size": 4}, "sp_model_kwargs"),
        ("marian", f"{CONFIG}/separate_vocabs", True, "separate_vocabs is true"),
        # tokenizer.json as a whole.
        ("bert", FILE, "{", "tokenizer.json is damaged"),
        ("bert", FILE, [], "should be a JSON object"),
        ("bert", FILE, {"kind": "bert"}, "is that of a run of this package"),
        ("bert", f"{FILE}/version", "2.0", 'version is "2.0"'),
        ("bert", f"{FILE}/more", 1, "more is 1, and this field is not understood"),
        ("bert", f"{MODEL}/type", "WordLevel", "type 'WordLevel', which is not supported"),
        ("bert", f"{FILE}/decoder", {"type": "CTC"}, "decoder 'CTC'"),
        ("bert", f"{FILE}/added_tokens/5/odd", 1, "added_tokens: 5: odd is 1"),
        ("bert", f"{FILE}/added_tokens/5/id", None, "id is None"),
        ("bert", f"{FILE}/added_tokens/5/content", "", "an added token is ''"),
        # WordPiece.
        ("bert", f"{MODEL}/max_input_chars_per_word", 50, "max_input_chars_per_word is 50"),
        ("bert", f"{MODEL}/continuing_subword_prefix", "@@", "continuing_subword_prefix is"),
        ("bert", f"{MODEL}/odd", True, "odd is true"),
        ("bert", f"{MODEL}/unk_token", "[SEP]", "unk_token"),
        ("bert", f"{NORMALIZER}/clean_text", False, "clean_text is false"),
        ("bert", NORMALIZER, {"type": "NFKC"}, "a BertNormalizer is"),
        ("bert", NORMALIZER, None, "a BertNormalizer is"),
        ("bert", SPLITTER, {"type": "Whitespace"}, "'Whitespace', which is not supported"),
        ("bert", SPLITTER, None, "'BertPreTokenizer' is"),
        # Byte pairs.
        ("gpt2", f"{MODEL}/dropout", 0.1, "dropout is 0.1"),
        ("gpt2", f"{MODEL}/ignore_merges", True, "ignore_merges is true"),
        ("gpt2", f"{MODEL}/byte_fallback", True, "byte_fallback is true"),
        ("gpt2", f"{MODEL}/end_of_word_suffix", "</w>", "end_of_word_suffix"),
        ("gpt2", f"{MODEL}/merges/0", "a b c", "merge 0 is 'a b c'"),
        ("gpt2", f"{SPLITTER}/use_regex", False, "use_regex is false"),
        (
            "gpt2",
            SPLITTER,
            {"type": "Sequence", "pretokenizers": []},
            "pre_tokenizer is nothing, which",
        ),
        ("gpt2", NORMALIZER, {"type": "NFC"}, "the normalizer 'NFC'"),
        # Unigram.
        ("t5", f"{MODEL}/byte_fallback", True, "byte_fallback is true"),
        ("t5", f"{MODEL}/unk_id", None, "unk_id is null"),
        ("t5", f"{MODEL}/unk_id", 999, "unk_id is 999"),
        ("t5", f"{MODEL}/vocab/3", ["x"], "vocab 3 is"),
        ("t5", f"{MODEL}/vocab/3", ["x", float("nan")], "vocab 3 is .* can't be a piece"),
        ("t5", f"{MODEL}/vocab/9/0", "▁", "twice"),
        ("t5", NORMALIZER, {"type": "NFKC"}, "type 'NFKC' is not supported"),
        ("t5", NORMALIZER, CHARSMAP, "table of characters is damaged"),
        ("t5", f"{SPLITTER}/pretokenizers/1/prepend_scheme", "first", "'first', which is not"),
        ("t5", f"{SPLITTER}/pretokenizers/1/prepend_scheme", "never", "'never', which is not"),
        ("t5", f"{SPLITTER}/pretokenizers/1/replacement", "_", 'replacement is "_"'),
        ("t5", f"{SPLITTER}/pretokenizers/0", {"type": "Digits"}, "'Digits' is not supported"),
        ("t5", f"{FILE}/added_tokens/1/content", "<x>", "'<x>' has the id 1 of '</s>'"),
        # What texts are framed with.
        ("bert", FRAME, None, r"makes 'A' of a text A, but a model of the type 'bert' gets"),
        ("gpt2", FRAME, CASES["roberta"]["files"][FILE]["post_processor"], "of the type 'gpt2'"),
        ("bert", FRAME, TEMPLATE, "makes '' of a text A"),
        ("bert", FRAME, {"type": "Own"}, "the type 'Own' is not supported"),
        ("bert", f"{FRAME}/single/1/Sequence/type_id", 1, "type_id 1"),
        ("bert", f"{FRAME}/pair/4/SpecialToken/id", "[CLS]", "of two texts"),
        ("bert", f"{FRAME}/special_tokens/[CLS]/ids", [999], "makes 'id 999 A"),
        ("bert", f"{FRAME}/special_tokens/[CLS]", None, r"no ids of '\[CLS\]'"),
        ("bert", f"{FRAME}/special_tokens/[CLS]/ids", [3], r"makes '\[SEP\] A \[SEP\]'"),
        # Files that contradict tokenizer.json.
        ("bert", "vocab.txt", "[PAD]\n[CLS]\n", r"vocab.txt and .* the piece 1 is '\[CLS\]'"),
        ("gpt2", "vocab.json", {"a": 0}, "vocab.json and .* do not agree"),
        ("gpt2", "merges.txt", "a b\n", "merges.txt and .* do not agree"),
        ("xlm-roberta", "spiece.model", "", "has no pieces"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(name, path, value, message, tmp_path):
    folder = write(name, tmp_path, put(path, value))
    with pytest.raises(InputError, match=f"The tokeniser in {folder} can't be read: .*{message}"):
        import_tokenizer(folder, config_of(name))


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("bert", f"{CONFIG}/model_max_length", 128),
        ("bert", f"{CONFIG}/clean_up_tokenization_spaces", True),
        ("bert", f"{CONFIG}/never_split", ["[SEP]"]),
        ("bert", f"{CONFIG}/do_basic_tokenize", True),
        ("bert", f"{CONFIG}/tokenizer_class", "BertTokenizerFast"),
        ("bert", f"{CONFIG}/tokenizer_class", "TokenizersBackend"),
        ("bert", f"{CONFIG}/strip_accents", True),
        ("bert", f"{CONFIG}/new_field", None),
        ("bert", f"{FILE}/truncation", {"max_length": 128}),
        ("bert", f"{FILE}/padding", {"pad_id": 0}),
        ("bert", SPLITTER, {"type": "Sequence", "pretokenizers": [{"type": "BertPreTokenizer"}]}),
        ("bert", "special_tokens_map.json", {"pad_token": {"content": "[PAD]", "lstrip": True}}),
        ("bert", FRAME, {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}),
        ("gpt2", CONFIG, {"model_max_length": 1024}),
        ("bert", CONFIG, {"do_lower_case": True}),
        ("bert", "sentence_bert_config.json", {"max_seq_length": 256, "do_lower_case": False}),
        ("roberta", f"{CONFIG}/trim_offsets", False),
        ("gpt2", FRAME, {"type": "ByteLevel", "trim_offsets": False}),
        ("t5", f"{CONFIG}/legacy", False),
        ("marian", f"{CONFIG}/target_lang", "deu"),
    ],
)
def test_what_changes_no_ids_is_harmless(made, name, path, value, tmp_path):
    tokenizer = read_tokenizer(write(name, tmp_path, put(path, value)), config_of(name))
    assert settings_of(tokenizer) == settings_of(made(name))


def test_merges_may_be_lists_or_strings(made, tmp_path):
    merges = CASES["gpt2"]["files"][FILE]["model"]["merges"]
    other = [" ".join(m) if isinstance(m, list) else m.split(" ") for m in merges]
    tokenizer = read_tokenizer(
        write("gpt2", tmp_path, put(f"{MODEL}/merges", other)), config_of("gpt2")
    )
    assert tokenizer.merges == made("gpt2").merges


# --- Without tokenizer.json -----------------------------------------------------------------------


def pieces_of(model, key="vocab"):
    return sorted(model[key], key=model[key].get)


def older(name, folder):
    """Write a case as it was published before there was a tokenizer.json."""
    whole = CASES[name]["files"][FILE]

    def change(files):
        del files[FILE]
        entries = {}
        for token in whole["added_tokens"]:
            entries[str(token["id"])] = {k: v for k, v in token.items() if k != "id"}
        files[CONFIG]["added_tokens_decoder"] = entries
        model = whole["model"]
        if "merges" in model:
            files["vocab.json"] = model["vocab"]
            lines = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
            files["merges.txt"] = "#version: 0.2\n" + "".join(f"{line}\n" for line in lines)
        elif isinstance(model["vocab"], dict):
            files["vocab.txt"] = "".join(f"{piece}\n" for piece in pieces_of(model))

    write(name, folder, change)
    model = (GOLDEN / "sentencepiece.model").read_bytes()
    if name == "t5":
        (folder / "spiece.model").write_bytes(model)
    return folder


@pytest.mark.parametrize(
    "name",
    ["bert", "bert with accents", "mpnet", "roberta with a space in front", "gpt2"],
)
def test_older_files_say_the_same(made, name, tmp_path):
    tokenizer = read_tokenizer(older(name, tmp_path), config_of(name))
    assert settings_of(tokenizer) == settings_of(made(name))


def test_the_older_files_of_t5_give_the_same_ids(tmp_path):
    tokenizer = read_tokenizer(older("t5", tmp_path), config_of("t5"))
    assert tokenizer.tokenize(CASES["t5"]["texts"]).to_list() == CASES["t5"]["ids"]


def test_added_tokens_of_old_are_found_as_well(tmp_path):
    files = {"vocab.txt": "".join(f"{p}\n" for p in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"])}
    files["added_tokens.json"] = json.dumps({"New": 5, "[X]": 6})
    files["special_tokens_map.json"] = json.dumps({"additional_special_tokens": ["[X]"]})
    for name, content in files.items():
        (tmp_path / name).write_text(content, "utf-8")
    tokenizer = read_tokenizer(tmp_path)
    assert tokenizer.tokenize(["a NEW[X] [x]"]).to_list() == [[4, 5, 6, 1, 1, 1]]
    (tmp_path / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    (tmp_path / CONFIG).write_text('{"do_lower_case": false}')
    tokenizer = read_tokenizer(tmp_path)
    assert tokenizer.lowercase and tokenizer.strip_accents is False
    assert tokenizer.tokenize(["A á"]).to_list() == [[4, 1]]


def test_tokens_of_t5_without_rows_in_the_model_are_none(tmp_path):
    (tmp_path / "spiece.model").write_bytes((GOLDEN / "sentencepiece.model").read_bytes())
    large = read_tokenizer(tmp_path, {"model_type": "t5", "vocab_size": 158})
    assert len(large) == 158 and large.vocabulary[58] == "<extra_id_99>"
    assert large.tokenize(["<extra_id_99><extra_id_0>"]).to_list() == [[58, 157]]
    small = read_tokenizer(tmp_path, {"model_type": "t5", "vocab_size": 157})
    assert len(small) == 58


def test_ids_of_xlm_roberta_are_not_those_of_its_model(tmp_path):
    whole = CASES["xlm-roberta"]
    vocabulary = whole["files"][FILE]["model"]["vocab"]
    pieces = [("<unk>", 0, UNKNOWN), ("<s>", 0, CONTROL), ("</s>", 0, CONTROL)]
    pieces += [(name, score, NORMAL) for name, score in vocabulary[4:-1]]
    table = read_model((GOLDEN / "sentencepiece.model").read_bytes()).table
    (tmp_path / "sentencepiece.bpe.model").write_bytes(write_model(pieces, table))
    with pytest.raises(ValueError, match=r"neither tokenizer\.json"):
        read_tokenizer(tmp_path / "nowhere")
    tokenizer = read_tokenizer(tmp_path, config_of("xlm-roberta"))
    assert tokenizer.vocabulary[:4] == ["<s>", "<pad>", "</s>", "<unk>"]
    assert tokenizer.vocabulary[-1] == "<mask>"
    assert tokenizer.tokenize(whole["texts"][:8]).to_list() == whole["ids"][:8]


def test_a_language_is_one_token_where_a_text_begins_with_it(made):
    tokenizer = made("marian")
    french = tokenizer.vocabulary.index(">>fra<<")
    rows = tokenizer.tokenize([">>fra<< the", ">>fra<<", "the >>fra<<", ">>fra<<>>fra<< x"])
    first, alone, late, twice = rows.to_list()
    assert first[0] == french and first[1:] == tokenizer.tokenize(["the"]).to_list()[0]
    assert alone == [french] and french not in late
    assert twice[0] == french and french not in twice[1:]


def test_lower_case_before_a_normaliser_that_keeps_case(tmp_path):
    name = "bert cased with Chinese words"
    inner = CASES[name]["files"][FILE]["normalizer"]
    change = put(NORMALIZER, {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, inner]})
    tokenizer = read_tokenizer(write(name, tmp_path / "a", change), config_of(name))
    assert tokenizer.lowercase and tokenizer.strip_accents is False
    change = put("sentence_bert_config.json", {"do_lower_case": True})
    other = read_tokenizer(write(name, tmp_path / "b", change), config_of(name))
    assert settings_of(other) == settings_of(tokenizer)


def test_a_vocabulary_beside_tokenizer_json_may_lack_added_tokens(tmp_path):
    pieces = pieces_of(CASES["bert"]["files"][FILE]["model"])
    change = together(
        put("vocab.txt", "".join(f"{piece}\n" for piece in pieces)),
        put("added_tokens.json", {"word": len(pieces) + 4}),
    )
    tokenizer = read_tokenizer(write("bert", tmp_path, change), config_of("bert"))
    assert tokenizer.vocabulary[len(pieces) + 4] == "word"
