"""A task to learn in minutes: turn spoken English into written English.

Speech recognition hears words; people want to read figures. This module invents sentence pairs
such as

    the train leaves at twenty five past six on the third of march and costs forty two dollars
    the train leaves at 6:25 on March 3 and costs $42

from templates, so there is nothing to download. The spoken side has only the letters a to z,
spaces and the apostrophe of "o'clock". The written side differs from it in the values alone:

    cardinals       three hundred and forty two         342    (with a comma from 10,000 up)
    ordinals        twenty first                        21st
    dates           the third of march                  March 3, or with a year March 3, 2024
    times           quarter to nine in the evening      8:45 pm
    money           forty two dollars and ten cents     $42.10, also in € and £
    percentages     twelve point five percent           12.5%
    phone numbers   five double five oh one two three   555-0123

Two properties make the task a fair test. The written sentence is a function of the spoken one, so
a perfect score is possible. And each value belongs to a single split, so a model meets in the
test only values which it never saw in training: it has to know the rule.
"""

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal, get_args

Split = Literal["train", "validation", "test"]
Kind = Literal["cardinal", "ordinal", "date", "time", "money", "percentage", "phone"]


@dataclass(frozen=True)
class Example:
    """A sentence in both forms, with the written forms of the values in it, in order."""

    spoken: str
    written: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """Something to write in figures, with every way of saying it."""

    written: str
    spoken: tuple[str, ...]


# --- The kinds of value ---------------------------------------------------------------------------

_UNITS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen"""
UNITS = tuple(_UNITS.split())
TENS = ("", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
ORDINALS = {"one": "first", "two": "second", "three": "third"}
ORDINAL_ENDINGS = {"y": "ieth", "ve": "fth", "t": "th", "e": "th", "": "th"}  # fifty, five, eight
_MONTHS = """January February March April May June July August September October November
    December"""
MONTHS = tuple(_MONTHS.split())
DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # no leap day: each date is in every year
CLOCK_PARTS = {5: "five", 10: "ten", 15: "quarter", 20: "twenty", 25: "twenty five", 30: "half"}
CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
}


def _say(number: int, link: str = " ") -> str:
    """Number words below 100,000; ``link`` is " " or " and ", as in "two hundred and six"."""
    if number < 20:
        return UNITS[number]
    if number < 100:
        return f"{TENS[number // 10]} {UNITS[number % 10]}" if number % 10 else TENS[number // 10]
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    head, rest = divmod(number, size)
    if not rest:
        return f"{_say(head)} {name}"
    return f"{_say(head)} {name}{link if rest < 100 else ' '}{_say(rest, link)}"


def _ways_to_say(number: int) -> tuple[str, ...]:
    plain, linked = _say(number), _say(number, " and ")
    return (plain,) if plain == linked else (plain, linked)


def _figures(number: int) -> str:
    return str(number) if number < 10_000 else f"{number:,}"


def cardinal(number: int) -> Value:
    """A whole number below 100,000: "three hundred and forty two" -> 342."""
    return Value(_figures(number), _ways_to_say(number))


def ordinal(number: int) -> Value:
    """A rank from 1 to 99: "twenty first" -> 21st."""
    *tens, last = _say(number).split()
    stem, ending = re.findall("^(.+?)(y|ve|t|e|)$", last)[0]
    last = ORDINALS.get(last) or stem + ORDINAL_ENDINGS[ending]
    suffix = "th" if 10 < number < 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return Value(f"{number}{suffix}", (" ".join([*tens, last]),))


def date(month: int, day: int, year: int | None = None) -> Value:
    """A day, with or without a year from 1910 to 2099: "the third of march" -> March 3."""
    written, name, (nth,) = MONTHS[month - 1], MONTHS[month - 1].lower(), ordinal(day).spoken
    days = (f"the {nth} of {name}", f"{name} {nth}", f"{name} the {nth}")
    if year is None:
        return Value(f"{written} {day}", days)
    pairs = f"{_say(year // 100)} {_say(year % 100)}"  # twenty twenty four, but two thousand five
    years = _ways_to_say(year) if 2000 <= year < 2010 else (pairs,)
    return Value(f"{written} {day}, {year}", tuple(f"{d} {y}" for d in days for y in years))


def time(hour: int, minute: int, half_day: Literal["", "am", "pm"] = "") -> Value:
    """A time on a twelve-hour clock: "quarter to nine in the evening" -> 8:45 pm."""
    written, name = f"{hour}:{minute:02}", _say(hour)
    digits = f"{name}{' oh ' if minute < 10 else ' '}{_say(minute)}" if minute else name
    phrases = [digits if minute else f"{name} o'clock"]
    if minute in CLOCK_PARTS:
        phrases.append(f"{CLOCK_PARTS[minute]} past {name}")
    elif 60 - minute in CLOCK_PARTS:
        phrases.append(f"{CLOCK_PARTS[60 - minute]} to {_say(hour % 12 + 1)}")
    if not half_day:
        return Value(written, tuple(phrases))
    afternoon = "afternoon" if hour % 12 < 6 else "evening"
    part = "morning" if half_day == "am" else afternoon
    spoken = (*(f"{phrase} in the {part}" for phrase in phrases), f"{digits} {half_day[0]} m")
    return Value(f"{written} {half_day}", spoken)


def money(currency: str, units: int, cents: int = 0) -> Value:
    """An amount in "$", "€" or "£": "forty two dollars and ten cents" -> $42.10."""
    unit, units_name, cent, cents_name = CURRENCIES[currency]
    written = f"{currency}{_figures(units)}" + (f".{cents:02}" if cents else "")
    large = [f"{n} {unit if units == 1 else units_name}" for n in _ways_to_say(units)]
    small = f"{_say(cents)} {cent if cents == 1 else cents_name}"
    if not units:
        return Value(written, (small,))
    return Value(written, tuple(f"{n} and {small}" if cents else n for n in large))


def percentage(whole: int, tenths: int = 0) -> Value:
    """A share with at most one decimal: "twelve point five percent" -> 12.5%."""
    spoken, written = (f" point {_say(tenths)}", f".{tenths}") if tenths else ("", "")
    return Value(f"{whole}{written}%", tuple(f"{n}{spoken} percent" for n in _ways_to_say(whole)))


def phone(digits: str) -> Value:
    """A number of 7 or 10 digits: "five double five oh one two three" -> 555-0123."""
    groups = (digits[:3], digits[3:]) if len(digits) == 7 else (digits[:3], digits[3:6], digits[6:])
    zero = " ".join(UNITS[int(digit)] for digit in digits)
    single = (zero, zero.replace("zero", "oh"))
    # In a run of equal digits only the last two are doubled: "five double five".
    doubled = (re.sub(r"\b(\w+) \1\b(?! \1)", r"double \1", spoken) for spoken in single)
    return Value("-".join(groups), tuple(dict.fromkeys((*single, *doubled))))


def _draw(kind: Kind, rng: Random) -> Value:
    """A random value; how often each occurs is decided here, and nowhere else."""
    match kind:
        case "cardinal":
            # From 2: "one" alone stays a word, as in "this one". Many are round, as in life.
            digits = rng.choices((2, 3, 4, 5), (6, 6, 6, 2))[0]
            number = rng.randint(2 if digits == 2 else 10 ** (digits - 1), 10**digits - 1)
            return cardinal(number - number % rng.choice((1, 1, 1, 10, 100)) or number)
        case "ordinal":
            return ordinal(rng.randint(1, 99))
        case "date":
            month = rng.randint(1, 12)
            day = rng.randint(1, DAYS[month - 1])
            return date(month, day, rng.choice((None, rng.randint(1950, 2049))))
        case "time":
            minute = rng.randrange(0, 60, rng.choice((1, 5)))
            return time(rng.randint(1, 12), minute, rng.choice(("", "", "am", "pm")))
        case "money":
            cents = rng.choice((rng.randint(1, 99), rng.randrange(5, 100, 5)))
            if rng.random() < 0.1:
                # "Ten cents" could be dollars or euros: let it always be dollars.
                return money(rng.choice("$£"), 0, cents)
            units = rng.randint(1, rng.choice((20, 99, 99, 999, 9999)))
            return money(rng.choice("$€£"), units, rng.choice((0, cents)))
        case "percentage":
            return percentage(rng.randint(1, 99), rng.choice((0, rng.randint(1, 9))))
        case "phone":
            size = rng.choice((10**6, 10**9))
            return phone(str(rng.randrange(2 * size, 10 * size)))  # none starts with 0 or 1


# --- Sentences ------------------------------------------------------------------------------------

# A template offers [choices|like these] and {names}, each a kind of value or a list of words below.
# Words stand between any two values, and never words that could belong to one ("{time} to ...",
# "{money} and {money}"): this is what keeps the written sentence a function of the spoken one.
TEMPLATES = """
the {vehicle} [leaves|departs] at {time} on {date} and costs {money}
the {vehicle} [to|for] {city} [leaves|departs|sets off] at {time} [every day|on weekdays|today]
the {vehicle} from {city} [arrives|gets in|is expected] at {time}
our {vehicle} [was cancelled|broke down|never came] so we [left|set off|drove off] at {time} instead
please [wake|meet|fetch] me at {time} [near the station|outside the hotel|by the front door]
{person} [will be|was|is] [at home|in the office|in {city}] from {time} until {time}
the alarm [rang|went off] at {time} and again at {time} [last night|yesterday]
{person} [landed|arrived|got stuck] in {city} at {time} on {date}
{person} was born [in {city}|by the sea] on {date}
the [contract|lease|warranty|licence] [with {person}|in {city}] [ends|expires|runs out] on {date}
we [moved|are moving|want to move] to {city} on {date}
the {shop} in {city} [is|was|will be] closed from {date} until {date}
[my|her|his|our] appointment [with {person}|at the {shop}] is on {date} at {time}
{person} [sent|returned|lost] the [form|parcel|keys|ticket] on {date}
the {event} on {date} was [cancelled|postponed|a great success|rather dull]
[remember|do not forget] that the {event} [in {city}|with {person}] is on {date}
the {event} on {date} [has moved to|now starts at|was put off until] {time}
{person} [lives|works|waited] on the {ordinal} floor [of the {shop}|with {person}]
{person} [finished|came] in {ordinal} place [out of|among] {cardinal} [runners|riders|swimmers]
this is the {ordinal} time [the printer failed|you asked me that|{person} was late]
turn [left|right] [at|after] the {ordinal} [street|bridge|crossing] [and keep going|near the {shop}]
[her|his|my] {ordinal} birthday is on {date}
the {ordinal} [chapter|question|song|story] is the [hardest|longest|best] [so far|of them all]
they [had|celebrated|cancelled] their {ordinal} [anniversary|concert|season] in {city}
the {ordinal} [customer|visitor|caller] [wins|gets|receives] {money}
the {ordinal} {event} [is|was|takes place] on {date} at {time}
seats in the {ordinal} row cost {money} [each|per person]
there are {cardinal} [seats|windows|lamps|doors] in the [hall|stadium|hotel|theatre]
we [sold|printed|ordered] {cardinal} [tickets|copies|posters] [last week|yesterday|for the {event}]
[about|nearly|roughly] {cardinal} people [came to|attended|watched] the {event} in {city}
the [parcel|crate|machine] [for|from] {person} weighs {cardinal} [grams|kilos]
the [village|island|town] has {cardinal} [inhabitants|houses|trees|sheep]
{person} [scored|won|needs] {cardinal} points [in the {event}|to win]
[exactly|only] {cardinal} [students|players] and {cardinal} [teachers|parents] [came|agreed]
the library [owns|lent out] {cardinal} books and {cardinal} magazines [last year|on {date}]
your [order|ticket|room] number is {cardinal} [now|as before]
the [bill|repair|new door|old bike] [was|cost|came to] {money}
{person} [paid|spent|owes me] {money} for the [bike|guitar|sofa|lamp]
[can|could] you lend {person} {money} until {date}
the price was {money} [last year|in {city}] and is now {money}
a room costs {money} here but {money} in {city}
we [raised|collected] {money} for the [school|hospital|{shop}] in {city}
the [rent|fee|deposit] of {money} is due [on|by|before] {date}
{person} paid {money} on {date} for {cardinal} [tickets|bricks|stamps]
[sales|prices|rents|profits] [rose|fell|grew] by {percentage} [last month|this year|in {city}]
[about|nearly|almost] {percentage} of the [students|voters|trains] [were late|agreed|stayed away]
the [battery|tank|download] is at {percentage} [now|already]
you get {percentage} off if you [book|pay|order] before {date}
the bank [pays|charges] {percentage} interest on {money}
{person} [got|scored] {percentage} in [her|his|my] {ordinal} [test|exam|round]
turnout was {percentage} in {city} but only {percentage} in {city}
[sales|exports] [rose|fell] by {percentage} and reached {cardinal} units [last year|by {date}]
{percentage} of all {cardinal} [members|seats|votes] [are|were] [ours|lost|new]
[call|text|ring] me [on|at] {phone} [before|after] {time}
{person} can be reached [on|at] {phone} [today|at work|after lunch]
[my|her|his|our] [new|office|home] number is {phone}
for [a table|a taxi|more information] [call|ring] {phone}
the {shop} [called|rang] from {phone} at {time} on {date}
if you [find|see] the [cat|dog|keys] please [call|text] {phone}
leave a message [for {person} on|on] {phone} before {date}
""".strip()

# Here the words of numbers play other roles, so that context has to be read.
NUMBERLESS_TEMPLATES = """
[wait|hold on|stop] [a second|just a second] [please|and listen|before you leave {city}|{person}]
{person} will be [back|here|ready] in a second [as usual|i think|so please wait]
{person} may [be late for|miss|enjoy|skip] the {event} in {city}
you may [leave|take|miss] the {vehicle} to {city} [now|today|tomorrow]
this one is [better|older|cheaper|lighter] than that one [says {person}|i think|in {city}]
no one [knows|saw|likes|called] {person} [here|in {city}|at the {event}]
they march [through|around|across] {city} [every week|again|with {person}]
there is no point in [going to|leaving|waiting for] the {event} [now|with {person}]
{person} [lost|found|sold] the other half of the [cake|map|ticket] in {city}
the {shop} in {city} is [closed|open|crowded|quiet] [today|again|on weekdays]
""".strip()

WORDS = {
    "opener": "okay|well|hello|listen|by the way|good morning|just so you know|good news|sorry",
    "person": "anna|ben|carla|david|emma|george|hannah|ivan|julia|kevin|laura|martin|nora|oscar|"
    "paula|robert|sarah|thomas|victor|wendy",
    "city": "london|paris|boston|chicago|berlin|madrid|dublin|vienna|oslo|toronto|sydney|rome",
    "vehicle": "train|bus|ferry|coach|shuttle|tram|plane|boat",
    "event": "meeting|concert|match|lecture|party|exam|wedding|workshop|parade|festival|auction",
    "shop": "bakery|museum|library|pharmacy|market|garage|clinic|bookshop|gallery|school",
}

MAX_WORDS = 30  # in a spoken sentence


def compose(pattern: str, readings: Sequence[tuple[str, str]]) -> Example:
    """Put (spoken, written) pairs into the ``{}`` of a pattern, in order."""
    spoken, written = ([reading[side] for reading in readings] for side in (0, 1))
    return Example(pattern.format(*spoken), pattern.format(*written), tuple(written))


def _choose(template: str, rng: Random) -> tuple[str, list[Kind]]:
    """Settle all words of a template, and return a pattern for `compose` and the kinds it needs."""
    kinds = []

    def fill(name: re.Match[Any]) -> str:
        if name[1] in WORDS:
            return rng.choice(WORDS[name[1]].split("|"))
        kinds.append(name[1])
        return "{}"

    pattern = re.sub(r"\[(.+?)\]", lambda choice: rng.choice(choice[1].split("|")), template)
    return re.sub(r"\{(\w+)\}", fill, pattern), kinds


# --- Splits and corpora ---------------------------------------------------------------------------

# Nobody can infer "fortieth" from other ordinals, or "twelve" from other numbers: what is said in
# one word is vocabulary, which has to be taught.
ONE_WORD = (*range(1, 21), *range(30, 91, 10))
VOCABULARY = frozenset(kind(number).written for number in ONE_WORD for kind in (cardinal, ordinal))


def split_of(written: str) -> Split:
    """The only split whose sentences may contain this written value.

    About 80 percent of the values are for training, 10 for validation and 10 for the test. The year
    of a date and the half of the day play no part in the choice: if the test has 6:25 in it, then
    training has neither 6:25 nor 6:25 pm.
    """
    if written in VOCABULARY:
        return "train"
    bare = re.sub(r", \d{4}$| [ap]m$", "", written)
    bucket = zlib.crc32(bare.encode()) % 10  # hash() would differ from one process to the next
    return "train" if bucket < 8 else "validation" if bucket == 8 else "test"


def examples(split: Split, count: int, seed: int = 0) -> Iterator[Example]:
    """Generate sentence pairs, none of them twice.

    Args:
        split: "train", "validation" or "test".
        count: How many pairs. More pairs begin with those of a smaller count.
        seed: Another seed gives other pairs, the same seed the same.

    Raises:
        ValueError: If there is no such split, or the count is not positive.
    """
    if split not in get_args(Split):
        raise ValueError(f"split must be one of {get_args(Split)}, not {split!r}")
    if count < 1:
        raise ValueError(f"count must be positive, not {count}")
    return _generate(split, count, Random(f"{split} {seed}"))


def _generate(split: Split, count: int, rng: Random) -> Iterator[Example]:
    numbered, numberless = TEMPLATES.splitlines(), NUMBERLESS_TEMPLATES.splitlines()
    seen: set[str] = set()
    while len(seen) < count:
        template = rng.choice(numberless if rng.random() < 0.05 else numbered)
        if rng.random() < 0.3:
            template = "{opener} " + template
        pattern, kinds = _choose(template, rng)
        example = compose(pattern, [_reading(kind, split, rng) for kind in kinds])
        if example.spoken not in seen and len(example.spoken.split()) <= MAX_WORDS:
            seen.add(example.spoken)
            yield example


def _reading(kind: Kind, split: Split, rng: Random) -> tuple[str, str]:
    """One way of saying a value of this kind and split, and its written form."""
    while True:
        value = _draw(kind, rng)
        if split_of(value.written) == split:
            return rng.choice(value.spoken), value.written


def write_corpus(directory: Path, sizes: Mapping[Split, int], seed: int = 0) -> None:
    """Write ``<split>.spoken`` and ``<split>.written``, one sentence a line, for each split.

    Args:
        directory: Where to write; it is created if it does not exist.
        sizes: The number of sentences of each split.
        seed: As for `examples`.

    Raises:
        ValueError: If there is no such split, or a size is not positive; nothing is written then.
    """
    corpora = {split: list(examples(split, size, seed)) for split, size in sizes.items()}
    directory.mkdir(parents=True, exist_ok=True)
    for split, pairs in corpora.items():
        for side in ("spoken", "written"):
            text = "".join(f"{getattr(pair, side)}\n" for pair in pairs)
            (directory / f"{split}.{side}").write_text(text, encoding="utf-8", newline="\n")
