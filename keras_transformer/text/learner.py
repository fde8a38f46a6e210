"""Learn a reversible WordPiece vocabulary from text, with the standard library alone.

Text is split at ASCII white space only, and nothing is normalised. A word is a first piece followed
by continuation pieces, which are marked with the prefix `##`: `bushes.` is `bush ##es ##.`, so
joining the pieces gives the text back.

Learning starts with every word cut into characters and then, again and again, merges the adjacent
pair of pieces that scores highest:

* `"frequency"`: the pair's count, which is the rule of byte-pair encoding (Sennrich et al., 2016);
* `"likelihood"`: count(ab) / (count(a) * count(b)), the rule of WordPiece (Schuster and Nakajima,
  2012), which favours pieces that seldom occur apart.

Equal scores are settled by the higher count, then by the alphabetical order of the two pieces.
"""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import islice
from operator import add, itemgetter
from typing import Literal, TypeVar, get_args

__all__ = ["CONTINUATION", "SPECIAL_TOKENS", "Score", "count_words", "learn_vocabulary"]

Score = Literal["frequency", "likelihood"]
T = TypeVar("T")

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")
CONTINUATION = "##"
MAX_WORD_LENGTH = 200

# Wider white space, such as the no-break space, is an ordinary character: it comes back as it was.
_WORD = re.compile(rf"[^\t-\r ]{{1,{MAX_WORD_LENGTH}}}")
_NOT_WHITE_SPACE = re.compile(r"[\x1c-\x1f]")  # to us; str.split() splits at them


def learn_vocabulary(
    texts: Iterable[str],
    vocabulary_size: int,
    *,
    score: Score = "frequency",
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    min_frequency: int = 2,
    max_alphabet: int = 1000,
    split_digits: bool = False,
    max_words: int = 2_000_000,
    progress: bool = False,
) -> list[str]:
    """Learn a reversible WordPiece vocabulary.

    The same texts in the same order always give the same vocabulary.

    Args:
        texts: The lines of text to learn from, read once.
        vocabulary_size: The number of entries wanted. There are fewer only if no pair is left that
            may be merged.
        score: How the next pair to merge is chosen: `"frequency"` or `"likelihood"`.
        special_tokens: Entries put first, in this order. No learned piece equals one of them.
        min_frequency: Pairs counted less often than this are not merged. `"likelihood"` begins with
            the rarest pairs, and reaches the common ones only if this is raised: the greatest
            number with which the vocabulary still fills up is a good one.
        max_alphabet: How many different characters are kept, the most frequent first. Words with
            any other character are not learned from.
        split_digits: Keep every decimal digit a piece of its own, and 0 to 9 in the vocabulary, so
            that numbers never seen can still be spelled.
        max_words: How many different words are held in memory. Beyond it the rarest are dropped.
        progress: Show progress bars on standard error. Needs the package `rich`.

    Returns:
        The special tokens, the alphabet (each character as a first piece, then each as a
        continuation, in the order of their code points) and the merged pieces in the order learned.

    Raises:
        TypeError: If `texts` is one string.
        ValueError: If an argument is out of its range, a special token is repeated or is a
            character of the text, the texts hold no word, or `vocabulary_size` is too small for
            the special tokens and the alphabet.

    Example:
        >>> learn_vocabulary(["hug hugs", "hug"], 11, special_tokens=["[PAD]"])
        ['[PAD]', 'g', 'h', 's', 'u', '##g', '##h', '##s', '##u', '##ug', 'hug']
    """
    if score not in get_args(Score):
        raise ValueError(f"score is {score!r}; choose one of {', '.join(get_args(Score))}.")
    for name, number in (("min_frequency", min_frequency), ("max_alphabet", max_alphabet)):
        if number < 1:
            raise ValueError(f"{name} is {number}; it must be at least 1.")
    if vocabulary_size > sys.maxunicode:
        raise ValueError(f"vocabulary_size is {vocabulary_size}; the most is {sys.maxunicode}.")
    repeated = [token for token, count in Counter(special_tokens).items() if count > 1]
    if repeated:
        raise ValueError(f"special_tokens holds {repeated[0]!r} more than once; give it once.")

    words = count_words(texts, max_words, progress)
    if not words:
        raise ValueError("texts holds no word; give at least one line that is not blank.")
    alphabet = _choose_alphabet(words, max_alphabet, split_digits)
    vocabulary = [*special_tokens, *alphabet, *(CONTINUATION + c for c in alphabet)]
    if len(vocabulary) > vocabulary_size:
        raise ValueError(
            f"vocabulary_size is {vocabulary_size}, but {len(vocabulary)} entries are needed: "
            f"{len(special_tokens)} special tokens and {len(alphabet)} characters in two forms. "
            "Raise vocabulary_size or lower max_alphabet."
        )
    if len(set(vocabulary)) < len(vocabulary):
        clash = next(token for token, count in Counter(vocabulary).items() if count > 1)
        raise ValueError(f"special_tokens holds {clash!r}, a piece of the alphabet; rename it.")

    learner = Learner(words, alphabet, score, min_frequency)
    del words  # The learner holds them in its own form, and there can be millions.
    pieces = learner.learn(forbidden=set(special_tokens), split_digits=split_digits)
    wanted = vocabulary_size - len(vocabulary)
    vocabulary += track(islice(pieces, wanted), "Merging", "pieces", progress, wanted)
    return vocabulary


def split_at_white_space(text: str) -> list[str]:
    """Split a text at ASCII white space.

    A word of more than 200 characters, as a line of Chinese may be, is cut into stretches of 200.
    """
    # str.split() is several times faster, so it takes the lines for which it is right.
    plain = text.isascii() and not _NOT_WHITE_SPACE.search(text)
    fast = plain and len(text) <= MAX_WORD_LENGTH
    return text.split() if fast else _WORD.findall(text)


def count_words(
    texts: Iterable[str],
    max_words: int = 2_000_000,
    progress: bool = False,
    split: Callable[[str], Iterable[str]] = split_at_white_space,
) -> Counter[str]:
    """Count the words of a text.

    Whenever a line makes more than `max_words` different words, the rarest are dropped until three
    quarters of `max_words` are left. Which these are depends on the texts and their order alone.

    Args:
        texts: The lines of text.
        max_words: How many different words may be held after each line.
        progress: Show a progress bar on standard error. Needs the package `rich`.
        split: Cuts a line into words.

    Returns:
        How often each word occurs.

    Raises:
        TypeError: If `texts` is one string.
        ValueError: If `max_words` is less than 1.

    Example:
        >>> count_words(["a rose is", "a rose"])
        Counter({'a': 2, 'rose': 2, 'is': 1})
    """
    if isinstance(texts, str):
        raise TypeError("texts is one string; give an iterable of strings, such as a list.")
    if max_words < 1:
        raise ValueError(f"max_words is {max_words}; it must be at least 1.")
    counts: Counter[str] = Counter()
    for text in track(texts, "Reading", "lines", progress):
        counts.update(split(text))
        if len(counts) > max_words:
            # Dropping a quarter at once makes sorting rare. The sort is stable, so that of equally
            # frequent words the new ones, which had less time to recur, are kept.
            by_count = sorted(counts.items(), key=itemgetter(1))
            counts = Counter(dict(by_count[-max(1, max_words * 3 // 4) :]))
    return counts


def _choose_alphabet(words: Mapping[str, int], size: int, digits: bool) -> list[str]:
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    del characters["\0"]  # no vocabulary of tf.text can hold it
    kept = sorted(characters, key=lambda c: (-characters[c], c))[:size]
    return sorted({*kept, *"0123456789"} if digits else kept)


class Learner:
    """A corpus cut into pieces, with the statistics that choose the next merge.

    A piece is held as the single character whose code point is its index in `pieces`, a word as the
    string of its pieces and a pair as a string of two. Merging a pair in a word is then str.split
    and str.join, whatever the length of the word. Each merge touches only the words that hold the
    pair, and updates the counts around it.

    Args:
        words: How often each word occurs.
        alphabet: The characters; words with any other are not learned from.
        score: The rule for the next pair.
        min_frequency: The least count of a pair that is merged.
        mark: What continuations begin with. If it is empty, a piece is the same wherever it stands.
    """

    def __init__(
        self,
        words: Mapping[str, int],
        alphabet: list[str],
        score: Score,
        min_frequency: int,
        mark: str = CONTINUATION,
    ) -> None:
        self.mark = mark
        self.pieces = [*alphabet, *(mark + c for c in alphabet if mark)]
        self.merges: list[tuple[str, str]] = []
        self.likelihood = score == "likelihood"
        self.min_frequency = min_frequency
        self.words: list[str] = []
        self.counts: list[int] = []  # of the words
        self.piece_counts: Counter[str] = Counter()
        self.pair_counts: Counter[str] = Counter()
        # The words a pair occurs in. One may be listed twice, or still be listed when it no longer
        # holds the pair: merging then leaves it as it is.
        self.places: defaultdict[str, list[int]] = defaultdict(list)
        # The pairs a piece is part of; their likelihood changes whenever the piece's count does.
        self.partners: defaultdict[str, set[str]] = defaultdict(set)

        first = {ord(c): chr(i) for i, c in enumerate(alphabet)}
        shift = len(self.pieces) - len(alphabet)
        continuation = {ord(c): chr(shift + i) for i, c in enumerate(alphabet)}
        known = set(alphabet)
        for text, count in words.items():
            if not known.issuperset(text):
                continue
            word = text[0].translate(first) + text[1:].translate(continuation)
            for piece in word:
                self.piece_counts[piece] += count
            for pair in map(add, word, word[1:]):
                self.pair_counts[pair] += count
                self.places[pair].append(len(self.words))
            self.words.append(word)
            self.counts.append(count)
        for pair in self.pair_counts:
            for piece in pair:
                self.partners[piece].add(pair)
        self._fill_queue()

    def learn(self, forbidden: set[str], split_digits: bool) -> Iterator[str]:
        """Merge the best pair, again and again, and yield the pieces made.

        No piece is made twice. Between two boundaries that no merge has crossed, how a string is
        cut depends on that string alone, so the last merge that makes it one piece is always the
        same.
        """
        while self.queue:
            entry = heappop(self.queue)
            *_, left, right, pair = entry
            if pair not in self.pair_counts or entry != self._rank(pair):
                continue
            piece = left + right.removeprefix(self.mark)
            if piece in forbidden:
                continue
            # Text may hold "#". A first piece "##" could not be told from a continuation.
            if piece.startswith(self.mark) and not left.startswith(self.mark):
                continue
            # As digits are never merged, a piece that ends in one is one.
            if split_digits and (left[-1].isdecimal() or right[-1].isdecimal()):
                continue
            self.pieces.append(piece)
            self.merges.append((left, right))
            self._merge(pair, chr(len(self.pieces) - 1))
            yield piece

    def _fill_queue(self) -> None:
        # A pair is queued again whenever its rank changes, so its earlier entries are out of date.
        # They are passed over, and thrown away when they fill most of the queue.
        pairs = self.pair_counts.items()
        self.queue = [self._rank(pair) for pair, count in pairs if count >= self.min_frequency]
        heapify(self.queue)

    def _rank(self, pair: str) -> tuple[float, int, str, str, str]:
        """The pair's place in the queue: the best pair has the least rank."""
        left, right = pair[0], pair[1]
        count = self.pair_counts[pair]
        score = float(count)
        if self.likelihood:
            score = count / (self.piece_counts[left] * self.piece_counts[right])
        return -score, -count, self.pieces[ord(left)], self.pieces[ord(right)], pair

    def _merge(self, pair: str, merged: str) -> None:
        left, right = pair[0], pair[1]
        # For each occurrence its word, by the piece to its left and the piece to its right, or
        # among the doubled if it directly follows another.
        lefts: defaultdict[str, list[int]] = defaultdict(list)
        rights: defaultdict[str, list[int]] = defaultdict(list)
        doubled: list[int] = []
        occurrences = 0
        for index in self.places.pop(pair):
            if pair not in self.words[index]:
                continue
            head, *middle, tail = parts = self.words[index].split(pair)
            self.words[index] = merged.join(parts)
            occurrences += self.counts[index] * (len(middle) + 1)
            if head:
                lefts[head[-1]].append(index)
            for part in middle:
                if part:
                    rights[part[0]].append(index)
                    lefts[part[-1]].append(index)
                else:
                    doubled.append(index)
            if tail:
                rights[tail[0]].append(index)
        self.piece_counts[merged] += occurrences
        self.piece_counts[left] -= occurrences
        self.piece_counts[right] -= occurrences

        change: defaultdict[str, int] = defaultdict(int)

        def replace(before: str, after: str, places: list[int]) -> None:
            count = sum(map(self.counts.__getitem__, places))
            change[before] -= count
            change[after] += count
            self.places[after] += places

        for piece, places in lefts.items():
            replace(piece + left, piece + merged, places)
        for piece, places in rights.items():
            replace(right + piece, merged + piece, places)
        if doubled:
            replace(right + left, merged + merged, doubled)
        change[pair] = -self.pair_counts[pair]
        self._change(change)

        stale = set(change)
        if self.likelihood:
            stale |= self.partners[left] | self.partners[right]
        for other in stale:
            if self.pair_counts[other] >= self.min_frequency:
                heappush(self.queue, self._rank(other))
        if len(self.queue) > 4 * len(self.pair_counts):
            self._fill_queue()

    def _change(self, change: Mapping[str, int]) -> None:
        """Add to the counts of pairs, and forget those that no longer occur."""
        for pair, difference in change.items():
            self.pair_counts[pair] += difference
            if gone := not self.pair_counts[pair]:
                del self.pair_counts[pair]
                self.places.pop(pair, None)
            if self.likelihood:
                for piece in pair:
                    (self.partners[piece].discard if gone else self.partners[piece].add)(pair)


def track(
    items: Iterable[T], title: str, unit: str, progress: bool, total: int | None = None
) -> Iterable[T]:
    """Pass the items on, with a progress bar if one is wanted."""
    if not progress:
        return items
    from rich import progress as bars
    from rich.console import Console
    from rich.text import Text

    class Rate(bars.ProgressColumn):
        def render(self, task: bars.Task) -> Text:
            rate = task.completed / (task.elapsed or 1)
            return Text(f"{task.completed:,.0f} {unit}, {rate:,.0f}/s")

    def tracked() -> Iterator[T]:
        columns = [bars.TextColumn(title), bars.BarColumn(), Rate(), bars.TimeElapsedColumn()]
        if total is not None:
            columns += [bars.TextColumn("left"), bars.TimeRemainingColumn()]
        with bars.Progress(*columns, console=Console(stderr=True)) as bar:
            yield from bar.track(items, total=total)

    return tracked()
