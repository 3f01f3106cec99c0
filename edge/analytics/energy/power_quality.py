"""Power quality from what meters show: unbalance of three line voltages."""

import math


def voltage_unbalance(u_ab: float, u_bc: float, u_ca: float) -> float:
    """Return the negative-sequence voltage unbalance in percent of three line voltages (GB/T 15543, IEC 61000-4-30).

    With β = ΣU⁴ / (ΣU²)² it is √((1 − √(3 − 6β)) / (1 + √(3 − 6β))). NaN where the three cannot be one triangle, or
    without voltage.
    """
    squares = [u * u for u in (u_ab, u_bc, u_ca)]
    total = sum(squares)
    if not total > 0:
        return math.nan
    inner = 3 - 6 * sum(square * square for square in squares) / (total * total)
    if inner < 0:
        return math.nan
    root = math.sqrt(inner)
    return 100 * math.sqrt(max(1 - root, 0.0) / (1 + root))
