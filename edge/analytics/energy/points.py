"""The kernels under `Meters`: the points of every meter in time order, and the energy counted up to each of them.

A point is a reading that matters: of the readings inside one cell (a minute) only the first and the last do, as long
as the register climbs, because the energy between them is their difference whatever lies between. So most readings
cost an overwrite, and two points a minute remember them exactly.

Energy is counted in millionths of the meter's unit, as whole numbers: round(reading · scale) plus an offset that
changes only at a roll-over, a reset or an exchange. So sums of intervals close to the last digit whatever the
intervals are, and a late reading changes only what lies beside it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.analytics.energy.marks import COUNTED, FIXED, GAP, GLITCH, JUMP, MISSING, RATIO, REBASED, RESET, ROLLED
from edge.analytics.kernels import kernel
from edge.analytics.operator import NEVER

POINT = np.dtype([("ts", "i8"), ("raw", "f8"), ("energy", "i8"), ("flags", "i8")])
"""A reading that matters: instant in ns, raw value, millionths counted since the first point, what was made of it."""

METER = np.dtype(
    [
        ("kind", "i8"),
        ("modulus", "f8"),
        ("top", "f8"),
        ("count", "i8"),
        ("fast_until", "i8"),
        ("cell_end", "i8"),
        ("last_ts", "i8"),
        ("last_raw", "f8"),
        ("dirty_from", "i8"),
        ("dirty_to", "i8"),
        ("room", "i8"),
        ("late", "i8"),
        ("twice", "i8"),
        ("let_go", "i8"),
        ("first_scale", "i8"),
        ("scales", "i8"),
    ]
)
"""A meter.

kind                 `REGISTER` or `POWER`
modulus              where the register rolls over, raw units; 0 never
top                  how fast it can climb, raw units a second; infinity if not known
count                points in use; the last one stands in last_ts, last_raw until it is written back
cell_end             where the cell of the last point ends
fast_until           up to this instant a climbing reading only moves the last point
dirty_from, dirty_to between these instants the energy may have changed since they were last reset
room                 how many points it may have; then the oldest quarter goes
late, twice, let_go  readings older than what is kept, of an instant that has another one; points let go for room
first_scale, scales  where the meter's rows begin in the table of scales, and how many they are
"""

SCALE = np.dtype([("ts", "i8"), ("per", "f8")])
"""From this instant on, a raw unit is so many millionths of the meter's unit (for a power: unit·h)."""

REGISTER, POWER = 0, 1
"""What a meter gives: a register that climbs, or a power that has to be integrated."""

CONFIRM = 3
"""How many later readings decide whether one out of line was a glitch (one of them is back) or is to be believed."""

NS_PER_H = 3.6e12


def _types(returns: str, *arguments: str) -> Any:
    """Return what makes a signature: P a row of points, M a meter, S the scales, else numba's own short names."""

    def make(numba: Any) -> Any:
        known = {
            "P": numba.from_dtype(POINT)[::1],
            "PP": numba.from_dtype(POINT)[:, ::1],
            "M": numba.from_dtype(METER),
            "MM": numba.from_dtype(METER)[::1],
            "S": numba.from_dtype(SCALE)[::1],
            "I": numba.int64[::1],
            "II": numba.int64[:, ::1],
            "I4": numba.int32[::1],
            "F": numba.float64[::1],
            "i": numba.int64,
            "f": numba.float64,
            "b": numba.boolean,
            "none": numba.void,
        }
        return known[returns](*(known[argument] for argument in arguments))

    return make


Points = NDArray[Any]
Meter = Any
Scales = NDArray[Any]


@kernel(_types("f", "M", "S", "i"))
def per_before(meter: Meter, scales: Scales, ts: int) -> float:
    """Return the millionths a raw unit that hold just before `ts`."""
    place = meter["first_scale"]
    last = place + meter["scales"] - 1
    while place < last and scales[place + 1]["ts"] < ts:
        place += 1
    return float(scales[place]["per"])


@kernel(_types("b", "f", "i", "f"))
def can_climb(climb: float, duration: int, top: float) -> bool:
    """Whether a register can climb by this much in `duration` nanoseconds, with one percent of slack."""
    return bool(0.0 <= climb <= top * (duration * 1.01e-9 + 1e-3))


@kernel(_types("b", "f", "i", "M"))
def rolls(over: float, duration: int, meter: Meter) -> bool:
    """Whether a register that fell rolled over, having climbed by `over`, and was not reset.

    It did if that is little of its range; if it is more, only the most it can climb tells, and only while it cannot
    have gone round once.
    """
    little = over < meter["modulus"] / 10
    sure = meter["top"] < np.inf and meter["top"] * (duration * 1e-9) < meter["modulus"]
    return bool((little or sure) and can_climb(over, duration, meter["top"]))


@kernel(_types("i", "P", "M", "i", "i"))
def out_of_line(points: Points, meter: Meter, a: int, i: int) -> int:
    """Judge a reading that does not follow from the counted one at `a`: `GLITCH`, `RESET`, `JUMP`, or 0 for not yet."""
    seen = 0
    for j in range(i + 1, meter["count"]):
        if points[j]["flags"] & REBASED:
            break
        if points[j]["flags"] & RATIO:
            continue
        if can_climb(points[j]["raw"] - points[a]["raw"], points[j]["ts"] - points[a]["ts"], meter["top"]):
            return GLITCH
        seen += 1
        if seen == CONFIRM:
            break
    else:
        return 0
    return RESET if points[i]["raw"] < points[a]["raw"] else JUMP


@kernel(_types("none", "P", "M", "S", "i", "i", "i"))
def judge(points: Points, meter: Meter, scales: Scales, gap: int, a: int, i: int) -> None:
    """Judge the reading at `i` after the counted one at `a` (-1 for none) and count its energy."""
    here = points[i]
    mark = here["flags"] & (FIXED | REBASED | RATIO)
    if a < 0:
        if meter["let_go"] == 0:
            here["energy"] = 0
        here["flags"] = mark if mark & RATIO else mark | COUNTED
        return
    last = points[a]
    here["energy"] = last["energy"]
    duration = here["ts"] - last["ts"]
    if mark & RATIO:
        j = i + 1
        while j < meter["count"] and points[j]["flags"] & RATIO:
            j += 1
        if j == meter["count"] or (meter["kind"] == REGISTER and points[j]["raw"] < last["raw"]):
            here["flags"] = mark
            return
        share = duration / (points[j]["ts"] - last["ts"])
        here["raw"] = last["raw"] + (points[j]["raw"] - last["raw"]) * share
    if mark & REBASED:
        here["flags"] = mark | COUNTED
        return
    per = per_before(meter, scales, here["ts"])
    climb = here["raw"] - last["raw"]
    if meter["kind"] == POWER:
        mean = (last["raw"] + here["raw"]) / 2
        here["energy"] += np.int64(np.rint(mean * per * (duration / NS_PER_H)))
        mark |= COUNTED
    else:
        step = np.int64(np.rint(here["raw"] * per)) - np.int64(np.rint(last["raw"] * per))
        over = climb + meter["modulus"]
        if can_climb(climb, duration, meter["top"]):
            here["energy"] += step
            mark |= COUNTED
        elif climb < 0 and over >= 0 and rolls(over, duration, meter):
            here["energy"] += step + np.int64(np.rint(meter["modulus"] * per))
            mark |= COUNTED | ROLLED
        else:
            found = out_of_line(points, meter, a, i)
            if found == RESET and meter["top"] < np.inf and can_climb(here["raw"], duration, meter["top"]):
                here["energy"] += np.int64(np.rint(here["raw"] * per))
            mark |= found | COUNTED if found & (RESET | JUMP) else found
    if mark & COUNTED and duration > gap:
        mark |= GAP
    here["flags"] = mark


@kernel(_types("i", "P", "M", "S", "i", "i", "i"))
def settle(points: Points, meter: Meter, scales: Scales, gap: int, begin: int, sure: int) -> int:
    """Judge the points from `begin` on; return the first place from `sure` on where all comes out as it was before.

    What lies behind that place only moves by the same amount.
    """
    a = begin - 1
    while a >= 0 and not points[a]["flags"] & COUNTED:
        a -= 1
    same = 0
    for i in range(begin, meter["count"]):
        flags, energy = points[i]["flags"], points[i]["energy"]
        judge(points, meter, scales, gap, a, i)
        if points[i]["flags"] & COUNTED:
            a = i
        # A judgement looks ahead, so several in a row must be as before.
        same = same + 1 if i >= sure and points[i]["flags"] == flags and flags & COUNTED else 0
        if same > CONFIRM:
            moved = points[i]["energy"] - energy
            if moved != 0:
                for k in range(i + 1, meter["count"]):
                    points[k]["energy"] += moved
            return i
    return int(meter["count"])


@kernel(_types("b", "P", "M", "i", "i"))
def says_nothing(points: Points, meter: Meter, cell: int, i: int) -> bool:
    """Whether a point can go: its neighbours lie in the same cell and the register climbs through all three."""
    if meter["kind"] == POWER or i < 1 or i + 1 >= meter["count"]:
        return False
    if (points[i - 1]["flags"] | points[i]["flags"] | points[i + 1]["flags"]) & (FIXED | REBASED | RATIO):
        return False
    if points[i - 1]["ts"] // cell != points[i + 1]["ts"] // cell:
        return False
    return bool(points[i - 1]["raw"] <= points[i]["raw"] <= points[i + 1]["raw"])


@kernel(_types("none", "P", "M", "i"))
def take_out(points: Points, meter: Meter, place: int) -> None:
    """Take out the point at `place`."""
    for k in range(place, meter["count"] - 1):
        points[k] = points[k + 1]
    meter["count"] -= 1


@kernel(_types("none", "P", "M", "S", "i", "i", "i"))
def write_back(points: Points, meter: Meter, scales: Scales, gap: int, cell: int, unused: int) -> None:
    """Write the last point, which readings may have moved, back into its place."""
    last = meter["count"] - 1
    if last >= 1 and points[last]["ts"] != meter["last_ts"]:
        points[last]["ts"], points[last]["raw"] = meter["last_ts"], meter["last_raw"]
        judge(points, meter, scales, gap, last - 1, last)


@kernel(_types("none", "P", "M", "S", "i", "i", "i", "f", "i"))
def insert(points: Points, meter: Meter, scales: Scales, gap: int, cell: int, ts: int, raw: float, mark: int) -> None:
    """Put one reading in its place and settle what it touches."""
    write_back(points, meter, scales, gap, cell, 0)
    if meter["count"] == meter["room"]:
        gone = meter["room"] // 4
        for k in range(gone, meter["count"]):
            points[k - gone] = points[k]
        meter["count"] -= gone
        meter["let_go"] += gone
    i = meter["count"]
    while i > 0 and points[i - 1]["ts"] > ts:
        i -= 1
    if i == 0 and meter["let_go"] > 0:
        meter["late"] += 1
        return
    if i > 0 and points[i - 1]["ts"] == ts and not (mark | points[i - 1]["flags"]) & (FIXED | REBASED | RATIO):
        # Two readings of one instant: the higher holds, in whichever order they come.
        i -= 1
        meter["twice"] += 1
        if raw <= points[i]["raw"]:
            return
        points[i]["raw"] = raw
    else:
        for k in range(meter["count"], i, -1):
            points[k] = points[k - 1]
        meter["count"] += 1
        points[i]["ts"], points[i]["raw"], points[i]["energy"], points[i]["flags"] = ts, raw, 0, mark
    for place in (i + 1, i, i - 1):
        if says_nothing(points, meter, cell, place):
            take_out(points, meter, place)
            if place <= i:
                i -= 1
    i = max(i, 0)
    # What was not decided before this point, or was decided by looking ahead over it, is judged again.
    begin, plain = i, 0
    while begin > 0 and plain <= CONFIRM:
        begin -= 1
        plain = plain + 1 if points[begin]["flags"] & ~GAP == COUNTED else 0
    stop = settle(points, meter, scales, gap, begin, i + 1)
    # What this point decides, a reset say, may lie before it, with plain readings between.
    meter["dirty_from"] = min(meter["dirty_from"], points[max(begin - 1, 0)]["ts"])
    meter["dirty_to"] = max(meter["dirty_to"], points[min(stop, meter["count"] - 1)]["ts"])
    last = meter["count"] - 1
    meter["last_ts"], meter["last_raw"] = points[last]["ts"], points[last]["raw"]
    meter["cell_end"] = (meter["last_ts"] // cell + 1) * cell
    meter["fast_until"] = NEVER
    if meter["kind"] == REGISTER and last >= 1 and points[last]["flags"] == COUNTED:
        before = points[last - 1]
        plain_before = before["flags"] & COUNTED and not before["flags"] & (FIXED | REBASED | RATIO)
        if plain_before and before["ts"] >= meter["cell_end"] - cell:
            meter["fast_until"] = meter["cell_end"]


@kernel(_types("b", "P", "M", "S", "i", "i", "i", "f"))
def append(points: Points, meter: Meter, scales: Scales, gap: int, cell: int, ts: int, raw: float) -> bool:
    """Put a reading that simply follows behind the last one; False if it is not that simple, with nothing done."""
    n = meter["count"]
    if n < 2 or n == meter["room"] or points[n - 1]["flags"] != COUNTED or ts <= meter["last_ts"]:
        return False
    climb, duration = raw - meter["last_raw"], ts - meter["last_ts"]
    register = meter["kind"] == REGISTER
    if duration > gap or (register and not can_climb(climb, duration, meter["top"])):
        return False
    last, before = points[n - 1], points[n - 2]
    same_cell = ts < meter["cell_end"]
    whole = before["flags"] & COUNTED and not before["flags"] & (FIXED | REBASED | RATIO)
    meter["dirty_from"] = min(meter["dirty_from"], last["ts"])
    meter["dirty_to"] = max(meter["dirty_to"], ts)
    if last["ts"] != meter["last_ts"]:
        last["ts"], last["raw"] = meter["last_ts"], meter["last_raw"]
        judge(points, meter, scales, gap, n - 2, n - 1)
    two_in_cell = same_cell and whole and before["ts"] >= meter["cell_end"] - cell
    if not (register and two_in_cell and before["raw"] <= last["raw"]):
        n += 1
        meter["count"] = n
    points[n - 1]["ts"], points[n - 1]["raw"], points[n - 1]["flags"] = ts, raw, 0
    judge(points, meter, scales, gap, n - 2, n - 1)
    meter["last_ts"], meter["last_raw"] = ts, raw
    if not same_cell:
        meter["cell_end"] = (ts // cell + 1) * cell
    meter["fast_until"] = meter["cell_end"] if register and same_cell else NEVER
    return True


@kernel(_types("i", "PP", "MM", "S", "i", "i", "I4", "I", "F"))
def push(
    points: Points,
    meters: Points,
    scales: Scales,
    gap: int,
    cell: int,
    meter: NDArray[np.int32],
    ts: NDArray[np.int64],
    raw: NDArray[np.float64],
) -> int:
    """Take n readings; return how many went the long way.

    Args:
        points: (meters, room) of `POINT`.
        meters: (meters,) of `METER`.
        scales: of `SCALE`.
        gap: ns from which on what lies between two readings is interpolated.
        cell: ns in which only the first and the last reading matter.
        meter: (n,) i4, place of the meter.
        ts: (n,) i8, ns since 1970 UTC.
        raw: (n,) f8, finite readings.
    """
    long_way = 0
    for row in range(len(ts)):
        here = meters[meter[row]]
        climb = raw[row] - here["last_raw"]
        step = ts[row] - here["last_ts"]
        if ts[row] < here["fast_until"] and step > 0 and can_climb(climb, step, here["top"]) and step <= gap:
            here["last_ts"] = ts[row]
            here["last_raw"] = raw[row]
        elif not append(points[meter[row]], here, scales, gap, cell, ts[row], raw[row]):
            insert(points[meter[row]], here, scales, gap, cell, ts[row], raw[row], 0)
            long_way += 1
    return long_way


@kernel(_types("i", "P", "M", "S", "i", "i"))
def energy_at(points: Points, meter: Meter, scales: Scales, c: int, ts: int) -> int:
    """Return the millionths counted up to `ts`, which lies after the counted point before `c` and not after `c`."""
    a = c - 1
    while a >= 0 and not points[a]["flags"] & COUNTED:
        a -= 1
    if a < 0 or ts >= points[c]["ts"]:
        return int(points[c]["energy"])
    duration = points[c]["ts"] - points[a]["ts"]
    share = (ts - points[a]["ts"]) / duration
    if meter["kind"] == POWER:
        first, last = points[a]["raw"], points[c]["raw"]
        mean = first + (last - first) * share / 2
        part = mean * per_before(meter, scales, points[c]["ts"]) * (share * duration / NS_PER_H)
    else:
        part = (points[c]["energy"] - points[a]["energy"]) * share
    return int(points[a]["energy"] + np.int64(np.rint(part)))


@kernel(_types("none", "PP", "MM", "S", "i", "i", "I4", "I", "II", "II"))
def intervals(
    points: Points,
    meters: Points,
    scales: Scales,
    gap: int,
    cell: int,
    which: NDArray[np.int32],
    edges: NDArray[np.int64],
    out: NDArray[np.int64],
    marks: NDArray[np.int64],
) -> None:
    """Measure the energy between neighbouring edges.

    Args:
        points, meters, scales, gap, cell: as in `push`.
        which: (k,) i4, places of the meters asked for.
        edges: (n,) i8, instants in ns, ascending.
        out: (k, n - 1) i8, millionths.
        marks: (k, n - 1) i8, what happened in each interval: GAP, ROLLED, RESET, JUMP, GLITCH, RATIO, REBASED, MISSING.
    """
    for row in range(len(which)):
        mine, meter = points[which[row]], meters[which[row]]
        write_back(mine, meter, scales, gap, cell, 0)
        out[row, :] = 0
        marks[row, :] = 0
        n = meter["count"]
        last = n - 1
        while last >= 0 and not mine[last]["flags"] & COUNTED:
            last -= 1
        c = 0
        while c <= last and not mine[c]["flags"] & COUNTED:
            c += 1
        if c > last:
            marks[row, :] = MISSING
            continue
        begin, end = mine[c]["ts"], mine[last]["ts"]
        low, high = c, last
        while low < high:
            middle = (low + high) // 2
            if mine[middle]["ts"] < edges[0]:
                low = middle + 1
            else:
                high = middle
        while low > c and not mine[low]["flags"] & COUNTED:
            low -= 1
        c = low
        before = np.int64(0)
        left_out = 0
        for edge in range(len(edges)):
            at = edges[edge]
            since = edges[max(edge - 1, 0)]
            seen = 0
            while c < last and mine[c]["ts"] < at:
                seen |= (mine[c]["flags"] | left_out) if mine[c]["ts"] > since else 0
                c += 1
                left_out = 0
                while not mine[c]["flags"] & COUNTED:
                    left_out |= mine[c]["flags"]
                    c += 1
            now = np.int64(mine[c]["energy"]) if at <= begin else np.int64(energy_at(mine, meter, scales, c, at))
            if edge > 0:
                out[row, edge - 1] = now - before
                seen |= (mine[c]["flags"] | left_out) if mine[c]["ts"] > since else 0
                seen |= MISSING if since < begin or at > end else 0
                marks[row, edge - 1] = seen & ~(COUNTED | FIXED)
            before = now
