"""Print the tables of keras_transformer/text/unicode.py. It needs `tokenizers`."""

import textwrap
import unicodedata

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers


def ranges(codes):
    found: list[list[int]] = []
    for code in sorted(codes):
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    entries = (f"{a:X}" if a == b else f"{a:X}-{b:X}" for a, b in found)
    return textwrap.fill(" ".join(entries), 98, break_on_hyphens=False)


def what_bert_makes(characters, lowercase):
    normalize = normalizers.BertNormalizer(lowercase=lowercase).normalize_str
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    rows = {c: " ".join(w for w, _ in split(normalize(f"q{c}q")))[1:-1] for c in characters}
    return lambda kind: {ord(c) for c in characters if rows[c] == kind(c)}


def part_of_words(characters):
    """Tell beside which characters a token that counts as a single word is not found."""
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.add_tokens([AddedToken("<x>", single_word=True, normalized=False)])
    found = tokenizer.encode_batch([f"{c}<x>" for c in characters])
    return [ord(c) for c, row in zip(characters, found, strict=True) if 1 not in row.ids]


def main():
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    cased = what_bert_makes(characters, False)
    left_out = cased(lambda c: "")
    alone = cased(lambda c: f" {c} ")
    ideographs = {c for c in alone if unicodedata.category(chr(c)) in ("Lo", "Cn")}
    split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    letters = {c for c in characters if len(split(f"a{c}a")) == 1}
    numbers = {c for c in characters if len(split(f"1{c}1")) == 1}
    others = {c for c in characters if len(split(f"!{c}!")) == 1}
    tables = {
        "BERT_WHITE_SPACE": cased(lambda c: " "),
        "BERT_LEFT_OUT": left_out,
        "BERT_PUNCTUATION": alone - ideographs,
        "BERT_IDEOGRAPHS": ideographs,
        "BERT_ACCENTS": what_bert_makes(characters, True)(lambda c: "") - left_out,
        "WHITE_SPACE": map(ord, set(characters) - letters - numbers - others),
        "LETTERS": map(ord, letters),
        "NUMBERS": map(ord, numbers),
        "WORD": part_of_words(characters),
    }
    for name, codes in tables.items():
        print(f'{name} = """\n{ranges(codes)}\n"""\n')


if __name__ == "__main__":
    main()
