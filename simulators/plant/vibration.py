"""A vibration sensor on a pump with a growing outer-race defect: waveform and levels from one signal."""

import numpy as np
import numpy.typing as npt

RATE_HZ = 6400.0
SAMPLES = 2048
FULL_SCALE_G = 8.0
SHAFT_HZ = 1480 / 60
BPFO_ORDERS = 3.07  # outer race of a 6308: 8 balls, ball 15.08 mm, pitch 65 mm → 8/2 · (1 − 15.08/65)
RESONANCE_HZ = 2300.0
DAMPING_PER_S = 900.0
G_MM_S2 = 9806.65


def defect_g(elapsed_s: float, growth_s: float) -> float:
    """Return the amplitude of the defect's impacts: it grows e-fold each `growth_s` up to 5 g."""
    return float(min(0.05 * np.exp(elapsed_s / growth_s), 5.0))


def waveform(seed: int, elapsed_s: float, growth_s: float = 600.0) -> npt.NDArray[np.float64]:
    """Return 2,048 samples of acceleration in g from the moment `elapsed_s` on.

    Unbalance at shaft speed with its second harmonic, noise, and impacts at the ball-pass frequency of the outer race,
    each ringing at the housing's resonance.
    """
    chance = np.random.default_rng([seed, int(elapsed_s * 1000)])
    t = elapsed_s + np.arange(SAMPLES) / RATE_HZ
    signal = 0.30 * np.sin(2 * np.pi * SHAFT_HZ * t) + 0.08 * np.sin(4 * np.pi * SHAFT_HZ * t + 0.7)
    since = np.mod(t, 1 / (BPFO_ORDERS * SHAFT_HZ))
    signal += defect_g(elapsed_s, growth_s) * np.exp(-DAMPING_PER_S * since) * np.sin(2 * np.pi * RESONANCE_HZ * since)
    samples: npt.NDArray[np.float64] = signal + 0.02 * chance.standard_normal(SAMPLES)
    return samples


def to_int16(samples_g: npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
    """Return samples as the sensor's converter gives them: 32768 is the full scale of 8 g."""
    return np.clip(np.round(samples_g / FULL_SCALE_G * 32768), -32768, 32767).astype(np.int16)


def velocity_rms_mm_s(samples_g: npt.NDArray[np.float64]) -> float:
    """Return the velocity's RMS from 10 to 1000 Hz, by integration of the Hann-windowed spectrum (ISO 20816-1)."""
    window = np.hanning(len(samples_g))
    spectrum = np.fft.rfft((samples_g - samples_g.mean()) * G_MM_S2 * window)
    frequency = np.fft.rfftfreq(len(samples_g), 1 / RATE_HZ)
    band = (frequency >= 10) & (frequency <= 1000)
    power = np.abs(spectrum[band] / (2 * np.pi * frequency[band])) ** 2
    return float(np.sqrt(2 * power.sum() / (len(samples_g) * (window**2).sum())))
