"""Texts of all kinds of characters, for the golden files of the tokenisers."""

import random

WORDS = ["the", "cat", "sat", "on", "mat", "Hello", "WORLD", "playing", "unplayable"]
ODD = [
    *("wörld", "naïve", "İstanbul", "ΑΣ", "ß", "ﬁ", "Ǆ", "e\u0301", "\u212b", "ẛ̣", "가각"),
    *(
        "\u1112\u1161\u11ab",
        "👩‍🚀",
        "🇩🇪",
        "don't",
        "we'll've",
        "3.5",
        "10,000",
        "[SEP]",
        "''s",
        "'RE",
    ),
]
WHITE = " \t\n\r\v\f\x85\xa0\u1680\u2000\u2005\u200a\u2028\u2029\u202f\u205f\u3000\u180e"
INVISIBLE = "\xad\u200b\u200c\u200d\u2060\ufeff\u200e\u202e\u2066"
SIGNS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
RANGES = [
    *((0, 0x1F), (0x7F, 0x9F), (0xC0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x600, 0x10FF)),
    *((0x1100, 0x1FFF), (0x2010, 0x2060), (0x20A0, 0x2BFF), (0x2E00, 0x2E7F), (0x3000, 0x30FF)),
    *((0x4E00, 0x9FFF), (0xA000, 0xABFF), (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0xF900, 0xFEFF)),
    *((0xFF00, 0xFFEF), (0x10000, 0x1FFFF), (0x1F300, 0x1FAFF), (0x20000, 0x2FA1F)),
    *((0, 0x3FFF), (0xE000, 0x10FFFF)),
]


def texts(count: int, seed: int = 0, longest: int = 30) -> list[str]:
    rng = random.Random(seed)
    pools = [
        lambda: rng.choice(WORDS),
        lambda: rng.choice(ODD),
        lambda: rng.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"),
        lambda: rng.choice(WHITE),
        lambda: rng.choice(INVISIBLE),
        lambda: rng.choice(SIGNS),
        lambda: rng.choice("aé猫я") * rng.choice([33, 50, 99, 100, 101]),
        *[lambda: " "] * 4,
        *[lambda first=first, last=last: chr(rng.randint(first, last)) for first, last in RANGES],
    ]
    made = []
    for _ in range(count):
        some = pools if rng.random() < 0.5 else rng.sample(pools, 4)
        text = "".join(rng.choice(some)() for _ in range(rng.randint(1, longest)))
        made.append("".join(c for c in text if not "\ud800" <= c <= "\udfff"))
    return made
