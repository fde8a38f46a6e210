"""Make sentencepiece.model and sentencepiece.json: a tiny model and what it gives.

It needs `sentencepiece`. The rules for normalising are a few of those that T5's models have, which
take 240 KB.
"""

import io
import json
import tempfile
from pathlib import Path

import sentencepiece
from fuzz import WHITE, texts

LINES = [
    *["the lowest of the low", "they're playing; we'll play", "un deux trois", "猫が好き。猫"],
    *["The cats sat on the mat.", "Ångström naïve wörld", "office", "3.5 10,000 [mat]"],
]
RULES = {"ﬁ": "fi", "Ａ": "A", "A\u030a": "Å", "\u212b": "Å", "\xad": "", "½": "1⁄2", "가": "ga"}


def main():
    folder = Path(__file__).parent
    rules = {**RULES, **{c: " " for c in WHITE if c not in " \u180e"}}
    with tempfile.TemporaryDirectory() as made:
        table = Path(made) / "rules.tsv"
        codes = [[" ".join(f"{ord(c):X}" for c in s) for s in rule] for rule in rules.items()]
        table.write_text("".join("\t".join(line) + "\n" for line in codes), "utf-8")
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(LINES * 20),
            model_writer=model,
            vocab_size=58,
            character_coverage=1.0,
            normalization_rule_tsv=str(table),
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    content = model.getvalue()
    (folder / "sentencepiece.model").write_bytes(content)
    trained = sentencepiece.SentencePieceProcessor(model_proto=content)
    rows = [
        *LINES,
        "",
        "  ",
        " a  b ",
        "\u2581x",
        "a\u2581b",
        "</s>",
        "<unk> <pad>",
        *texts(150, 3),
    ]
    ids = trained.encode(rows)
    given = {"texts": rows, "ids": ids, "joined": trained.decode(ids)}
    path = folder / "sentencepiece.json"
    path.write_text(json.dumps(given, ensure_ascii=False, separators=(",", ":")), "utf-8")


if __name__ == "__main__":
    main()
