"""What the benchmarks found: rows of ours beside a peer, and the Markdown tables made of them."""

import dataclasses
import statistics

PRECISIONS = ("float16", "int8")  # at the end of a contender's name; all others are float32


class Missing(Exception):
    """Says why a contender can't do something."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One of ours beside one peer."""

    subject: str
    setting: str
    unit: str
    ours: str
    own: float | str  # a median, or why there is none
    peer: str
    theirs: float | str
    ratios: tuple[float, ...] = ()  # one a turn, above 1 where ours is better
    note: str = ""  # what else is to be said of our figure

    @property
    def ratio(self):
        """The median of the ratios."""
        return statistics.median(self.ratios)


def beside(subject, setting, unit, ours, measured, *, less=False, notes=None):
    """Put each of ours beside each peer.

    Args:
        subject: What was measured.
        setting: In which circumstances.
        unit: Of the figures.
        ours: Names of our contenders; all others are peers.
        measured: By contender, the figure of each turn, or a text that says why there is none.
        less: Whether less is better.
        notes: By contender of ours, what else is to be said.

    Returns:
        A list of rows.
    """
    rows = []
    for name in (name for name in measured if name in ours):
        for peer in (peer for peer in measured if peer not in ours):
            pair = measured[name], measured[peer]
            ratios = ()
            if not any(isinstance(some, str) for some in pair):
                turns = zip(*(reversed(pair) if less else pair), strict=True)
                ratios = tuple(better / worse for better, worse in turns)
            own, theirs = (x if isinstance(x, str) else statistics.median(x) for x in pair)
            note = (notes or {}).get(name, "")
            rows.append(Row(subject, setting, unit, name, own, peer, theirs, ratios, note))
    return rows


def lacking(rows):
    """Say which of ours could not be measured: unlike a peer's absence, that is a failure.

    Returns:
        A line for each subject, setting and contender.
    """
    lines = (
        f"{row.subject}, {row.setting}: {row.ours} failed: {' '.join(row.own.split())}"
        for row in rows
        if isinstance(row.own, str)
    )
    return _unique(lines)


def report(rows):
    """Write a summary and a table for each subject, in Markdown."""
    parts = [
        "Ratios are above 1 where ours is better: the median (lowest-highest) of turns that follow "
        "each other.",
        f"## Summary\n\n{summary(rows)}",
    ]
    for subject in _unique(row.subject for row in rows):
        own = [row for row in rows if row.subject == subject]
        parts.append(f"## {subject.capitalize()}\n\n{table(own)}")
    return "\n\n".join(parts)


def summary(rows):
    """Write the best of ours beside the best peer of the same precision, in every setting."""
    lines = []
    ahead = compared = 0
    for key in _unique(map(_cell, rows)):
        best = _best([row for row in rows if _cell(row) == key])
        if best is None:
            continue
        compared += bool(best.ratios)
        ahead += bool(best.ratios) and best.ratio > 1
        lines.append(
            [
                best.subject,
                best.setting,
                f"{best.ours}, {_figure(best.own, best.unit)}",
                f"{best.peer}, {_figure(best.theirs, best.unit)}",
                _range(best.ratios),
            ]
        )
    text = markdown(["subject", "setting", "ours, the best", "peer, the best", "ratio"], lines)
    return f"{text}\n\nOurs is better in {ahead} of {compared}. Precisions are alike."


def table(rows):
    """Write all rows of a subject: ours one below the other, peers side by side.

    A peer's cell has the ratio, and the peer's own figure after it.
    """
    peers = _unique(row.peer for row in rows)
    lines = {}
    for row in rows:
        own = _figure(row.own, row.unit) + (f" ({row.note})" if row.note else "")
        cells = lines.setdefault((row.setting, row.ours, own), {})
        parts = (_range(row.ratios), _figure(row.theirs))
        cells[row.peer] = "; ".join(part for part in parts if part)
    filled = [[*key, *(cells.get(peer, "") for peer in peers)] for key, cells in lines.items()]
    return markdown(["", "ours", "figure", *peers], filled)


def markdown(head, lines):
    """Write a Markdown table."""
    ruler = ["---", "---", *["---:"] * (len(head) - 2)]
    cells = ([f"{cell}".replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ruler, *cells))


def _cell(row):
    return row.subject, row.setting, row.unit, _precision(row.ours)


def _precision(name):
    return next((p for p in PRECISIONS if name.endswith(p)), "float32")


def _best(rows):
    """Choose the best of ours, each beside the best of its peers."""
    found = []
    for ours in _unique(row.ours for row in rows):
        peers = [r for r in rows if r.ours == ours and _precision(r.peer) == _precision(ours)]
        if peers:
            found.append(min(peers, key=lambda r: r.ratio if r.ratios else float("inf")))
    return max(found, key=lambda row: row.ratio if row.ratios else 0, default=None)


def _figure(value, unit=""):
    if isinstance(value, str):
        return f"missing: {' '.join(value.split())}"
    return f"{value:,.0f} {unit}".strip() if value >= 100 else f"{value:.3g} {unit}".strip()


def _range(ratios):
    if len(set(ratios)) < 2:
        return "".join(f"{ratio:.2f}" for ratio in ratios[:1])
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def _unique(values):
    return list(dict.fromkeys(values))
