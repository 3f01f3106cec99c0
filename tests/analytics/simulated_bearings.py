"""Simulated machines with a rolling bearing: what a sensor records of healthy ones and of the four faults.

Each machine is drawn at random: speed, bearing, sensor, structure, drive, and what else turns and hums beside. Real
recordings are few and from few rigs; a detector that only they have shaped fails on the next plant.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.bearing.bearings import Bearing

F64 = NDArray[np.float64]
FAULTS = {"outer_race": "bpfo", "inner_race": "bpfi", "ball": "bsf2", "cage": "ftf"}


@dataclass(frozen=True, slots=True)
class Simulated:
    """One record: acceleration in m/s², its rate, the real speed, the bearing, and what is wrong with it."""

    samples: F64
    rate_hz: float
    rpm: float
    bearing: Bearing
    fault: str
    slip: float


def a_bearing(rng: np.random.Generator) -> Bearing:
    """Return a ball or roller bearing with dimensions as real ones have them."""
    elements = int(rng.integers(7, 19))
    pitch = float(rng.uniform(25, 200))
    fill = rng.uniform(0.55, 0.92)
    return Bearing("drawn", elements, float(min(fill * np.pi * pitch / elements, 0.38 * pitch)), pitch)


def record(
    rng: np.random.Generator,
    fault: str = "none",
    *,
    share_db: float = -10.0,
    rate_hz: float = 12800.0,
    revolutions: float = 250.0,
    rpm: float = 1480.0,
    bearing: Bearing | None = None,
    slip: float | None = None,
    lines: bool = True,
    sensor: bool = True,
) -> Simulated:
    """Draw a machine and record it.

    Args:
        fault: none, outer_race, inner_race, ball or cage.
        share_db: power of the fault's strokes over that of the noise.
        slip: by how much the fault runs from its kinematic frequency, as a share; by default drawn from ±1 %.
        lines: whether shaft, gear, mains and a modulated noise are there besides.
        sensor: whether it has an offset, drift and steps of a converter.
    """
    bearing = bearing or a_bearing(rng)
    slip = float(rng.uniform(-0.01, 0.01)) if slip is None else slip
    size = int(revolutions * 60 / rpm * rate_hz)
    angle = 2 * np.pi * _turns(rng, size, rate_hz, rpm)
    samples = coloured(rng, size, rate_hz)
    if lines:
        samples = samples * _modulation(rng, angle) + _lines(rng, size, rate_hz, angle)
    if fault != "none":
        order = bearing.orders[FAULTS[fault]] * (1 + slip)
        strokes = _strokes(rng, fault, order, angle, rate_hz, bearing.orders["ftf"])
        samples += strokes * np.sqrt(10 ** (share_db / 10) / max(float(np.mean(strokes**2)), 1e-300))
    if sensor:
        samples += rng.normal(scale=2) + np.linspace(0, rng.normal(), size)
        step = float(np.ptp(samples)) / 2 ** rng.integers(11, 16)
        samples = np.round(samples / step) * step
    return Simulated(samples, rate_hz, rpm, bearing, fault, slip)


def coloured(rng: np.random.Generator, size: int, rate_hz: float) -> F64:
    """Return Gaussian noise of power 1 that falls with frequency and rings in a few places, as structures do."""
    spectrum = np.fft.rfft(rng.normal(size=size))
    hz = np.fft.rfftfreq(size, 1 / rate_hz) + 1.0
    gain = hz ** -rng.uniform(0, 0.7)
    gain /= gain[hz.size // 4]
    for _ in range(rng.integers(1, 5)):
        resonance, damping = rng.uniform(0.03, 0.48) * rate_hz, rng.uniform(0.01, 0.08)
        gain += rng.uniform(0.5, 5) / np.abs(1 - (hz / resonance) ** 2 + 2j * damping * hz / resonance) * 2 * damping
    samples = np.fft.irfft(spectrum * gain, size)
    return np.asarray(samples / samples.std())


def _turns(rng: np.random.Generator, size: int, rate_hz: float, rpm: float) -> F64:
    """Return turns of the shaft, whose speed wanders by a few hundredths of a percent."""
    knots = max(int(size / rate_hz) + 2, 4)
    wander = 1 + 3e-4 * np.interp(np.linspace(0, knots - 1, size), np.arange(knots), rng.normal(size=knots))
    turns = np.cumsum(wander) * rpm / 60 / rate_hz
    return np.asarray(turns * (size * rpm / 60 / rate_hz / turns[-1]))


def _modulation(rng: np.random.Generator, angle: F64) -> F64:
    """Return the loudness of the noise over a turn: blades and rubbing make it louder at some angles."""
    depth = rng.uniform(0, 0.3, size=3)
    orders = (1, 2, int(rng.integers(3, 8)))
    return np.asarray(1 + sum(d * np.cos(k * angle + rng.uniform(0, 6)) for d, k in zip(depth, orders, strict=True)))


def _lines(rng: np.random.Generator, size: int, rate_hz: float, angle: F64) -> F64:
    found = np.zeros(size)
    for order in range(1, 11):
        found += rng.exponential(1.0 / order) * np.cos(order * angle + rng.uniform(0, 6))
    teeth = int(rng.integers(13, 60))
    turn = angle[-1] / size / (2 * np.pi) * rate_hz
    for harmonic in (1, 2):
        if harmonic * teeth * turn < 0.45 * rate_hz:
            side = 1 + rng.uniform(0, 0.5) * np.cos(angle + rng.uniform(0, 6))
            found += rng.exponential(0.7) * side * np.cos(harmonic * teeth * angle + rng.uniform(0, 6))
    mains = (50.0 if rng.random() < 0.5 else 60.0) * (1 + rng.uniform(-5e-4, 5e-4))
    time = np.arange(size) / rate_hz
    for multiple in (1, 2, 4, 6):
        found += rng.exponential(0.2) * np.cos(2 * np.pi * multiple * mains * time + rng.uniform(0, 6))
    return found


def _strokes(rng: np.random.Generator, fault: str, order: float, angle: F64, rate_hz: float, cage_order: float) -> F64:
    """Return ringing strokes whose distances vary by about a percent and add up, as slip does.

    Source: Antoni & Randall, J. Vib. Acoust. 125 (2003) 282. An inner race comes through the load zone once a turn, a
    ball once a turn of the cage; a cage that rubs makes the noise louder once a turn of its own.
    """
    size = angle.size
    if fault == "cage":
        phase = order * angle + np.cumsum(rng.normal(scale=0.02 * np.sqrt(order * angle[-1] / size), size=size))
        loud = np.maximum(np.cos(phase), 0) ** 2
        return np.asarray(coloured(rng, size, rate_hz) * loud)
    turns = angle / (2 * np.pi)
    count = int(turns[-1] * order)
    gaps = (1 + rng.normal(scale=rng.uniform(0.003, 0.012), size=count)) / order
    at_turn = np.cumsum(gaps)
    at_turn = at_turn[at_turn < turns[-1]]
    place = np.searchsorted(turns, at_turn).clip(0, size - 1)
    force = 1 + 0.2 * rng.normal(size=place.size)
    if fault != "outer_race":
        around = 1.0 if fault == "inner_race" else cage_order
        force *= np.maximum(0.15, np.cos(2 * np.pi * around * at_turn + rng.uniform(0, 6))) ** 1.5
    train = np.zeros(size)
    np.add.at(train, place, force)
    length = min(int(0.02 * rate_hz) + 8, size)
    time = np.arange(length) / rate_hz
    ring = np.zeros(length)
    for _ in range(rng.integers(1, 3)):
        hz, damping = rng.uniform(0.08, 0.42) * rate_hz, rng.uniform(0.02, 0.06)
        ring += rng.uniform(0.4, 1) * np.exp(-2 * np.pi * damping * hz * time) * np.sin(2 * np.pi * hz * time)
    reach = size + length
    return np.asarray(np.fft.irfft(np.fft.rfft(train, reach) * np.fft.rfft(ring, reach), reach)[:size])
