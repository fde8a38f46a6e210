"""Make byte_pair_tokens.json: what Hugging Face's byte-level BPE gives. It needs `tokenizers`."""

import json
from pathlib import Path

from fuzz import texts
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

LINES = ["the lowest of the low", "they're playing; we'll play", "un deux trois", "  x = 10 * y\n"]


def main():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([*LINES * 20, *texts(200, seed=1)], trainer)
    model = json.loads(made.to_str())["model"]
    rows = ["it's they're we'll I've I'd can't I'm", "''s 's's  's\n's '", "a" * 70, " " * 9]
    rows += ["10 * y", "x\n\n  \ty ", "don'tdon't'", "e\u0301'm", *texts(250, seed=2)]
    content = {
        "vocabulary": [*sorted(model["vocab"], key=model["vocab"].get), "<|endoftext|>"],
        "merges": model["merges"],
        "texts": rows,
        "ids": [encoding.ids for encoding in made.encode_batch(rows)],
    }
    path = Path(__file__).with_name("byte_pair_tokens.json")
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), "utf-8")


if __name__ == "__main__":
    main()
