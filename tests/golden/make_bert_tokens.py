"""Make bert_tokens.json: what Hugging Face's BERT tokeniser gives. It needs `tokenizers`."""

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
from fuzz import texts
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [
    *("the", "play", "##ing", "##ed", "un", "##play", "##able", "wor", "##ld", "hello", "don"),
    *("猫", "好", "が", "##が", "ひ", "か", "##か", "ᄀ", "##ᅡ", "##ᆨ", "한", "α", "##σ", "я", "##я"),
    *("ß", "##ß", "ﬁ", "é", "##é", "wörld", "İ", "ə", "€", "。", "、", "「", "–", "…", "〜", "ー"),
    *("\u0300", "##\u0327", "\U0001f680", "##\U0001f680", "豈", "豈", "!!", "a.b", "\u061d"),
    *("##\U00011938", "##\ua7cb", "##\u1c8a", "##\U00016ebb"),  # newer than Unicode 8
]


def reference(vocabulary, lowercase, strip_accents=None, chinese=True):
    tokenizer = Tokenizer(
        models.WordPiece(
            {piece: i for i, piece in enumerate(vocabulary)},
            unk_token="[UNK]",
            max_input_chars_per_word=100,
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=chinese,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return lambda rows: [encoding.ids for encoding in tokenizer.encode_batch(rows)]


def main():
    letters = [chr(code) for code in range(33, 127)]
    alphabet = [*letters, *("##" + c for c in letters if c.isalnum())]
    vocabulary = list(dict.fromkeys([*SPECIAL, *alphabet, *PIECES]))
    rows = ["wörld", "playing unplayable", "a" * 100, "a" * 101, "é" * 100, "é" * 101, "x\0y"]
    rows += texts(280)
    content = {"vocabulary": vocabulary, "texts": rows}
    every = [f"a{chr(c)}b" for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for name, lowercase in (("uncased", True), ("cased", False)):
        tokenize = reference(vocabulary, lowercase)
        content[name] = tokenize(rows)
        ids = np.array([i for row in tokenize(every) for i in (*row, -1)], "<i4")
        content[f"{name}_characters"] = hashlib.sha256(ids.tobytes()).hexdigest()
    # Each character of all kinds, and the texts, under every rule.
    some = [f"a{chr(c)}b" for c in range(0x3100)]
    some += [f"a{chr(c)}b" for c in range(0x3100, 0x30000, 7) if not 0xD800 <= c < 0xE000]
    for rules in itertools.product((True, False), repeat=3):
        found = reference(vocabulary, *rules)([*rows, *some])
        ids = np.array([i for row in found for i in (*row, -1)], "<i4")
        name = " ".join(str(int(rule)) for rule in rules)
        content.setdefault("rules", {})[name] = hashlib.sha256(ids.tobytes()).hexdigest()
    path = Path(__file__).with_name("bert_tokens.json")
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), "utf-8")


if __name__ == "__main__":
    main()
