"""Rows of text as a table whose columns line up, Chinese too."""

from collections.abc import Collection, Sequence
from unicodedata import east_asian_width


def render(rows: Sequence[Sequence[str]], left: Collection[int]) -> str:
    """Return lines; the columns `left` begin at the left, the others end at the right."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths, left) for row in rows)


def _width(text: str) -> int:
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _line(row: Sequence[str], widths: Sequence[int], left: Collection[int]) -> str:
    cells = []
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        space = " " * (width - _width(cell))
        cells.append(cell + space if place in left else space + cell)
    return "  ".join(cells).rstrip()
