"""Fourier transforms inside kernels: Stockham's, of lengths 2ᵃ·5ᵇ, real and imaginary parts apart: they vectorise.

numba has no transforms of its own, and numpy's cannot be called from a kernel. Passes of radix 4 come first, then 2
and 5; each reads and writes whole rows. Source: Van Loan, Computational Frameworks for the FFT (1992), 1.7.
"""

import numpy as np
from numpy.typing import NDArray

from edge.analytics.kernels import kernel

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

PAD = 72
"""Values between real and imaginary parts: rows a multiple of 4 KiB apart would push each other out of the cache."""

COS_1, SIN_1 = float(np.cos(2 * np.pi / 5)), float(np.sin(2 * np.pi / 5))
COS_2, SIN_2 = float(np.cos(4 * np.pi / 5)), float(np.sin(4 * np.pi / 5))


def is_suitable(length: int) -> bool:
    """Tell whether a length has no other prime factors than 2 and 5."""
    while length > 1 and length % 5 == 0:
        length //= 5
    return length >= 1 and length & (length - 1) == 0


def radices(length: int) -> I64:
    """Return the passes of a transform of this length."""
    found = []
    for radix in (4, 2, 5):
        while length % radix == 0:
            found.append(radix)
            length //= radix
    return np.array(found, np.int64)


def twiddles(length: int) -> F64:
    """Return the factors of all passes in the order of their use: of each power the real parts, then the imaginary."""
    parts, left = [np.empty(0)], length
    for radix in radices(length).tolist():
        for power in range(1, radix):
            turn = np.exp(-2j * np.pi * power * np.arange(left // radix) / left)
            parts += [turn.real, turn.imag]
        left //= radix
    return np.ascontiguousarray(np.concatenate(parts))


def _pass_numpy(xr: F64, xi: F64, yr: F64, yi: F64, radix: int, m: int, s: int, turns: F64) -> None:
    x = (xr + 1j * xi)[: radix * m * s].reshape(radix, m, s)
    turn = turns[: 2 * (radix - 1) * m].reshape(radix - 1, 2, m)
    factor = np.concatenate([np.ones((1, m)), turn[:, 0] + 1j * turn[:, 1]])
    y = np.fft.fft(x, axis=0) * factor[:, :, None]
    flat = np.ascontiguousarray(y.transpose(1, 0, 2)).ravel()
    yr[: flat.size], yi[: flat.size] = flat.real, flat.imag


_PASS = "void(f8[::1], f8[::1], f8[::1], f8[::1], i8, i8, i8, f8[::1])"


@kernel(_PASS, _pass_numpy, contract=True, no_overlap=True)
def one_pass(xr: F64, xi: F64, yr: F64, yi: F64, radix: int, m: int, s: int, turns: F64) -> None:
    """Do one pass: m butterflies of a radix, each on rows of s values; x and y do not overlap."""
    row = s * m
    if radix == 4 and s == 1:  # the same as below, as one loop over the butterflies
        for p in range(m):
            ar, ai = xr[p], xi[p]
            br, bi = xr[m + p], xi[m + p]
            cr, ci = xr[2 * m + p], xi[2 * m + p]
            dr, di = xr[3 * m + p], xi[3 * m + p]
            er, ei, fr, fi = ar + cr, ai + ci, ar - cr, ai - ci
            gr, gi, hr, hi = br + dr, bi + di, bi - di, dr - br
            yr[4 * p], yi[4 * p] = er + gr, ei + gi
            tr, ti, w1, v1 = fr + hr, fi + hi, turns[p], turns[m + p]
            yr[4 * p + 1], yi[4 * p + 1] = w1 * tr - v1 * ti, w1 * ti + v1 * tr
            tr, ti, w1, v1 = er - gr, ei - gi, turns[2 * m + p], turns[3 * m + p]
            yr[4 * p + 2], yi[4 * p + 2] = w1 * tr - v1 * ti, w1 * ti + v1 * tr
            tr, ti, w1, v1 = fr - hr, fi - hi, turns[4 * m + p], turns[5 * m + p]
            yr[4 * p + 3], yi[4 * p + 3] = w1 * tr - v1 * ti, w1 * ti + v1 * tr
    elif radix == 4:
        for p in range(m):
            w1, v1, w2, v2 = turns[p], turns[m + p], turns[2 * m + p], turns[3 * m + p]
            w3, v3 = turns[4 * m + p], turns[5 * m + p]
            i, o = s * p, 4 * s * p
            for q in range(s):
                ar, ai = xr[i + q], xi[i + q]
                br, bi = xr[i + row + q], xi[i + row + q]
                cr, ci = xr[i + 2 * row + q], xi[i + 2 * row + q]
                dr, di = xr[i + 3 * row + q], xi[i + 3 * row + q]
                er, ei, fr, fi = ar + cr, ai + ci, ar - cr, ai - ci
                gr, gi, hr, hi = br + dr, bi + di, bi - di, dr - br
                yr[o + q], yi[o + q] = er + gr, ei + gi
                tr, ti = fr + hr, fi + hi
                yr[o + s + q], yi[o + s + q] = w1 * tr - v1 * ti, w1 * ti + v1 * tr
                tr, ti = er - gr, ei - gi
                yr[o + 2 * s + q], yi[o + 2 * s + q] = w2 * tr - v2 * ti, w2 * ti + v2 * tr
                tr, ti = fr - hr, fi - hi
                yr[o + 3 * s + q], yi[o + 3 * s + q] = w3 * tr - v3 * ti, w3 * ti + v3 * tr
    elif radix == 2:
        for p in range(m):
            w1, v1 = turns[p], turns[m + p]
            i, o = s * p, 2 * s * p
            for q in range(s):
                ar, ai, br, bi = xr[i + q], xi[i + q], xr[i + row + q], xi[i + row + q]
                yr[o + q], yi[o + q] = ar + br, ai + bi
                tr, ti = ar - br, ai - bi
                yr[o + s + q], yi[o + s + q] = w1 * tr - v1 * ti, w1 * ti + v1 * tr
    else:
        for p in range(m):
            w1, v1, w2, v2 = turns[p], turns[m + p], turns[2 * m + p], turns[3 * m + p]
            w3, v3, w4, v4 = turns[4 * m + p], turns[5 * m + p], turns[6 * m + p], turns[7 * m + p]
            i, o = s * p, 5 * s * p
            for q in range(s):
                ar, ai = xr[i + q], xi[i + q]
                br, bi = xr[i + row + q], xi[i + row + q]
                cr, ci = xr[i + 2 * row + q], xi[i + 2 * row + q]
                dr, di = xr[i + 3 * row + q], xi[i + 3 * row + q]
                er, ei = xr[i + 4 * row + q], xi[i + 4 * row + q]
                b_r, b_i, e_r, e_i = br + er, bi + ei, br - er, bi - ei
                c_r, c_i, d_r, d_i = cr + dr, ci + di, cr - dr, ci - di
                yr[o + q], yi[o + q] = ar + b_r + c_r, ai + b_i + c_i
                pr, pi = ar + COS_1 * b_r + COS_2 * c_r, ai + COS_1 * b_i + COS_2 * c_i
                ur, ui = SIN_1 * e_r + SIN_2 * d_r, SIN_1 * e_i + SIN_2 * d_i
                gr, gi = ar + COS_2 * b_r + COS_1 * c_r, ai + COS_2 * b_i + COS_1 * c_i
                hr, hi = SIN_2 * e_r - SIN_1 * d_r, SIN_2 * e_i - SIN_1 * d_i
                tr, ti = pr + ui, pi - ur
                yr[o + s + q], yi[o + s + q] = w1 * tr - v1 * ti, w1 * ti + v1 * tr
                tr, ti = gr + hi, gi - hr
                yr[o + 2 * s + q], yi[o + 2 * s + q] = w2 * tr - v2 * ti, w2 * ti + v2 * tr
                tr, ti = gr - hi, gi + hr
                yr[o + 3 * s + q], yi[o + 3 * s + q] = w3 * tr - v3 * ti, w3 * ti + v3 * tr
                tr, ti = pr - ui, pi + ur
                yr[o + 4 * s + q], yi[o + 4 * s + q] = w4 * tr - v4 * ti, w4 * ti + v4 * tr


def transform_numpy(a: F64, b: F64, passes: I64, turns: F64) -> None:
    """Do what `transform` does, with numpy alone."""
    n = a.shape[1] - PAD
    result = np.fft.fft(a[0, :n] + 1j * a[1, :n])
    last = a if passes.size % 2 == 0 else b
    last[0, :n], last[1, :n] = result.real, result.imag


@kernel("void(f8[:, ::1], f8[:, ::1], i8[::1], f8[::1])", transform_numpy)
def transform(a: F64, b: F64, passes: I64, turns: F64) -> None:
    """Transform complex values.

    Args:
        a: (2, n + PAD) f64 in, real and imaginary parts; spoilt, or the result after an even number of passes.
        b: (2, n + PAD) f64, the result after an odd number of passes.
        passes, turns: `radices` and `twiddles` of n.
    """
    left, s, used = a.shape[1] - PAD, 1, 0
    for number in range(passes.size):
        radix = passes[number]
        m = left // radix
        if number % 2 == 0:
            one_pass(a[0], a[1], b[0], b[1], radix, m, s, turns[used:])
        else:
            one_pass(b[0], b[1], a[0], a[1], radix, m, s, turns[used:])
        used += 2 * (radix - 1) * m
        left, s = m, s * radix
