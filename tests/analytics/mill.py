"""A milling cutter that vibrates: the delay-differential equation of regeneration, many cases at once.

Two modes, straight teeth without helix; each tooth cuts what the one before left, and may leave the cut. Source:
Schmitz & Smith, Machining Dynamics (2nd ed. 2019), chapter 4. Whether a case is stable is told by its own motion
without noise: once per turn it comes back to the same place, or not (Schmitz & Honeycutt 2016).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

STEPS = 240
"""Of a turn; a tooth is at the same places each turn."""

STIFFNESS, DAMPING = 8e6, 0.02
FORCE, RADIAL = 700e6, 0.3
FEED = 1e-4
STABLE_M = 1e-6


@dataclass(frozen=True, slots=True)
class Cut:
    """One case: acceleration in m/s² across the feed, at its rate, and whether the cut is stable."""

    acceleration: F64
    rate_hz: float
    rpm: float
    depth_mm: float
    stable: bool


def mill(rpm: F64, depth_mm: F64, natural_hz: F64, teeth: int = 2, turns: int = 120, seed: int = 1) -> list[Cut]:
    """Return the last turns of each case (its speed, depth and natural frequency), half immersed, down milling."""
    dt = 60 / rpm / STEPS
    omega = 2 * np.pi * natural_hz
    mass = STIFFNESS / omega**2
    damping = 2 * DAMPING * STIFFNESS / omega
    n = rpm.size
    position, velocity = np.zeros((2, n)), np.zeros((2, n))
    surface = np.zeros((STEPS, n))
    jolt = 1 + 0.01 * np.random.default_rng(seed).normal(size=(STEPS * turns, 1))
    places = np.empty((STEPS * turns, n))
    pulls = np.empty((STEPS * turns, n))
    depth = depth_mm * 1e-3
    for step in range(STEPS * turns):
        force = np.zeros((2, n))
        for tooth in range(teeth):
            at = (step + tooth * STEPS // teeth) % STEPS
            angle = 2 * np.pi * at / STEPS
            if not STEPS // 4 <= at < STEPS // 2:
                continue
            sine, cosine = np.sin(angle), np.cos(angle)
            normal = -position[0] * sine - position[1] * cosine
            chip = FEED * sine + surface[at] - normal
            cuts = chip > 0
            surface[at] = np.where(cuts, normal, surface[at] + FEED * sine)
            push = np.where(cuts, FORCE * depth * chip, 0.0) * jolt[step]
            force[0] += push * (cosine + RADIAL * sine)
            force[1] += push * (RADIAL * cosine - sine)
        pull = (force - damping * velocity - STIFFNESS * position) / mass
        velocity += pull * dt
        position += velocity * dt
        places[step], pulls[step] = position[1], pull[1]
    once = places[STEPS * turns // 2 :: STEPS]
    moves = np.abs(np.diff(once, axis=0)).mean(axis=0)
    first = STEPS * turns // 4
    return [
        Cut(np.ascontiguousarray(pulls[first:, i]), float(1 / dt[i]), float(rpm[i]), float(depth_mm[i]),
            bool(moves[i] < STABLE_M))
        for i in range(n)
    ]  # fmt: skip
