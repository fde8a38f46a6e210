"""Make published_tokenizers.json: files as they are published, and the ids that they stand for.

It needs `transformers` 5, `tokenizers` and `sentencepiece`. Vocabularies are those of the other
golden files, made small.
"""

import base64
import json
import tempfile
from pathlib import Path

import transformers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

FOLDER = Path(__file__).parent
LETTERS = [chr(code) for code in range(33, 127)]
WORDS = ["the", "play", "##ing", "wor", "##ld", "猫", "好", "é", "wörld", "für", "##ür", "fur"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
ADDED = [
    AddedToken("<new>", normalized=True),
    AddedToken("NewTok", normalized=True),
    AddedToken("<left>", lstrip=True, normalized=False),
    AddedToken("<right>", rstrip=True, normalized=False),
    AddedToken("word", single_word=True, normalized=False),
    AddedToken("<new><new>", normalized=False),
]
TEXTS = [
    *("", " ", "  \t\n ", "the playing wörld", " The  cat\tsat.", "für Müller", "WÖRLD, Playing!"),
    *("猫が好き", "a\u3000b\xa0c\u2028d", "👩‍🚀 é e\u0301", "don't we'll've 3.5 10,000"),
    *("<new>", "a<new>b", "a <new> b", "<NEW> newtok NEWTOK xNewTokx", "<new><new><new>"),
    *("a  <left>  b", "a  <right>  b", " <left><right> ", "word sword word_ word. éword word"),
    *("a ​<left>b", "<extra_id_0> x <extra_id_1>.", "ﬁ Ａ ½", "low lowest <new>low", "mat <ne"),
]


def save(tokenizer):
    """Return the files that a tokeniser is saved as."""
    with tempfile.TemporaryDirectory() as made:
        tokenizer.save_pretrained(made)
        return {
            path.name: json.loads(path.read_text("utf-8"))
            if path.suffix == ".json"
            else {"base64": base64.b64encode(path.read_bytes()).decode()}
            for path in sorted(Path(made).iterdir())
        }


def case(tokenizer, kind, texts=TEXTS):
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    return {"model_type": kind, "files": save(tokenizer), "texts": texts, "ids": ids}


def alone(tokenizer, kind):
    """A tokeniser without a class of its own: `tokenizer.json` and nothing else."""
    ids = [row.ids for row in tokenizer.encode_batch(TEXTS, add_special_tokens=False)]
    content = json.loads(tokenizer.to_str())
    return {"model_type": kind, "files": {"tokenizer.json": content}, "texts": TEXTS, "ids": ids}


def numbered(pieces):
    return {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}


def bert(special, cls=transformers.BertTokenizer, kind="bert", **settings):
    continued = [f"##{c}" for c in LETTERS if c.isalnum()]
    tokenizer = cls(vocab=numbered([*special, *LETTERS, *continued, *WORDS]), **settings)
    tokenizer.add_tokens(ADDED)
    return case(tokenizer, kind)


def byte_pairs(cls, kind, special, **settings):
    golden = json.loads((FOLDER / "byte_pair_tokens.json").read_text("utf-8"))
    known, merges = set(), []
    pieces = [p for p in golden["vocabulary"] if len(p) == 1]
    for left, right in golden["merges"][:150]:
        known.add(left + right)
        merges.append((left, right))
    vocabulary = numbered([*special, *pieces, *(a + b for a, b in merges)])
    tokenizer = cls(vocab=vocabulary, merges=merges, **settings)
    tokenizer.add_tokens(ADDED)
    return case(tokenizer, kind)


def unigram_parts():
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((FOLDER / "sentencepiece.model").read_bytes())
    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    return pieces, model.normalizer_spec.precompiled_charsmap


def t5():
    pieces, table = unigram_parts()
    pieces += [(f"<extra_id_{i}>", 0.0) for i in reversed(range(3))]
    tokenizer = transformers.T5Tokenizer(vocab=pieces, extra_ids=3, _spm_precompiled_charsmap=table)
    tokenizer.add_tokens(ADDED[:5])
    return case(tokenizer, "t5")


def xlm_roberta():
    pieces, table = unigram_parts()
    pieces = [(name, 0.0) for name in SPECIAL[:4]] + pieces[3:] + [("<mask>", 0.0)]
    tokenizer = transformers.XLMRobertaTokenizer(vocab=pieces, _spm_precompiled_charsmap=table)
    return case(tokenizer, "xlm-roberta")


def converted_unigram(more, split):
    """As transformers 4 and its general converter write it."""
    pieces, table = unigram_parts()
    pieces += [("a\u2581b", -0.5), ("<late>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(table), *more])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", "always", split=split)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.add_tokens(ADDED[:5])
    return alone(tokenizer, "t5")


def marian():
    pieces, _ = unigram_parts()
    names = ["</s>", "<unk>", *(name for name, _ in pieces[3:]), ">>fra<<", ">>deu<<", "<pad>"]
    texts = [*TEXTS[:12], ">>fra<< the low", ">>deu<<the", "the >>fra", ">>xyz the"]
    with tempfile.TemporaryDirectory() as made:
        for name in ("source.spm", "target.spm"):
            (Path(made) / name).write_bytes((FOLDER / "sentencepiece.model").read_bytes())
        (Path(made) / "vocab.json").write_text(json.dumps(numbered(names)), "utf-8")
        (Path(made) / "tokenizer_config.json").write_text(
            json.dumps({"source_lang": "eng", "target_lang": "fra"})
        )
        return case(transformers.MarianTokenizer.from_pretrained(made), "marian", texts)


def main():
    usual = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    strip, replace = normalizers.Strip(left=False, right=True), normalizers.Replace
    v5 = [replace(Regex(r"\A +| +\z"), ""), replace(Regex(" {2,}"), " "), replace(" ", "\u2581")]
    cases = {
        "bert": bert(usual),
        "bert cased with Chinese words": bert(
            usual, do_lower_case=False, tokenize_chinese_chars=False
        ),
        "bert with accents": bert(usual, strip_accents=False),
        "mpnet": bert([*SPECIAL[:4], "[UNK]", "<mask>"], transformers.MPNetTokenizer, "mpnet"),
        "roberta": byte_pairs(transformers.RobertaTokenizer, "roberta", SPECIAL),
        "roberta with a space in front": byte_pairs(
            transformers.RobertaTokenizer, "roberta", SPECIAL, add_prefix_space=True
        ),
        "gpt2": byte_pairs(transformers.GPT2Tokenizer, "gpt2", ["<|endoftext|>"]),
        "t5": t5(),
        "xlm-roberta": xlm_roberta(),
        "unigram of transformers 4": converted_unigram(
            [strip, replace(Regex(" {2,}"), "\u2581")], True
        ),
        "unigram of transformers 5": converted_unigram(v5, False),
        "marian": marian(),
    }
    path = FOLDER / "published_tokenizers.json"
    path.write_text(json.dumps(cases, ensure_ascii=False, separators=(",", ":")), "utf-8")


if __name__ == "__main__":
    main()
