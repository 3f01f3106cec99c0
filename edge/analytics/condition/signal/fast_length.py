"""Lengths at which a Fourier transform is quick."""

from functools import cache


@cache
def fast_length(least: int) -> int:
    """Return the smallest number of at least `least` whose only prime factors are 2, 3 and 5."""
    best = 1 << max(least - 1, 0).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            rest = -(-least // three)
            best = min(best, three << max(rest - 1, 0).bit_length())
            three *= 3
        five *= 5
    return best
