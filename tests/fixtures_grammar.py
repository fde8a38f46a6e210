"""A grammar of two languages with one right translation for every sentence.

The target asks for what translation asks of a Transformer: articles and adjectives agree with a
noun that comes later, and with its case, the verb moves to the end of a clause, and a clause in
front turns subject and verb round.

    the tall man says that a small dog sees the red house
    der große mann sagt , dass ein kleiner hund das rote haus sieht
"""

import random

NOUNS = {
    "dog": ("hund", "m"),
    "man": ("mann", "m"),
    "bird": ("vogel", "m"),
    "tree": ("baum", "m"),
    "cat": ("katze", "f"),
    "woman": ("frau", "f"),
    "house": ("haus", "n"),
    "child": ("kind", "n"),
    "horse": ("pferd", "n"),
}
ADJECTIVES = {"small": "klein", "tall": "groß", "red": "rot", "young": "jung", "clean": "rein"}
VERBS = {"sees": "sieht", "loves": "liebt", "finds": "findet", "hears": "hört", "paints": "malt"}
SAYING = {"says": "sagt", "thinks": "denkt", "writes": "schreibt"}
LINKS = {"when": "wenn", "because": "weil", "while": "während"}
# Articles, and the endings of adjectives after them, by gender.
NOMINATIVE = {
    "the": {"m": ("der", "e"), "f": ("die", "e"), "n": ("das", "e")},
    "a": {"m": ("ein", "er"), "f": ("eine", "e"), "n": ("ein", "es")},
}
ACCUSATIVE = {
    "the": {**NOMINATIVE["the"], "m": ("den", "en")},
    "a": {**NOMINATIVE["a"], "m": ("einen", "en")},
}


def sentence_pairs(count, seed):
    """Return `count` different pairs of sentences."""
    rng = random.Random(seed)
    pairs = {}
    while len(pairs) < count:
        source, target = _sentence(rng)
        pairs[source] = target
    return list(pairs.items())


def _sentence(rng):
    if rng.random() < 0.5:
        subject, verb, clause = _noun_phrase(rng), rng.choice(list(SAYING)), _clause(rng)
        source = f"{subject[0]} {verb} that {clause[0]}"
        return source, f"{subject[1]} {SAYING[verb]} , dass {clause[1]}"
    link, clause = rng.choice(list(LINKS)), _clause(rng)
    subject, verb, thing = _noun_phrase(rng), rng.choice(list(VERBS)), _noun_phrase(rng)
    source = f"{link} {clause[0]} , {subject[0]} {verb} {thing[0]}"
    return source, f"{LINKS[link]} {clause[1]} , {VERBS[verb]} {subject[1]} {thing[2]}"


def _clause(rng):
    """Return a subordinate clause: in the target its verb comes last."""
    subject, verb, thing = _noun_phrase(rng), rng.choice(list(VERBS)), _noun_phrase(rng)
    return f"{subject[0]} {verb} {thing[0]}", f"{subject[1]} {thing[2]} {VERBS[verb]}"


def _noun_phrase(rng):
    """Return it in the source, and in the target as a subject and as an object."""
    article, noun = rng.choice(["the", "a"]), rng.choice(list(NOUNS))
    adjective = rng.choice([*ADJECTIVES, None])
    word, gender = NOUNS[noun]
    forms = [" ".join(filter(None, (article, adjective, noun)))]
    for case in (NOMINATIVE, ACCUSATIVE):
        other, ending = case[article][gender]
        described = ADJECTIVES[adjective] + ending if adjective else None
        forms.append(" ".join(filter(None, (other, described, word))))
    return forms
