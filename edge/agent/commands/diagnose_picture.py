"""The picture of a diagnosis: time, spectrum, and envelope spectrum with the fault lines marked."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge.agent.commands.waveform_file import INSTALL
from edge.analytics.condition.bearing.diagnosis import STANDARD_GRAVITY, Diagnosis, middle
from edge.analytics.condition.bearing.lines import HARMONICS, P_FALSE_ALARM
from edge.analytics.condition.motor.current import CurrentSpectrum
from edge.analytics.condition.signal.envelope import band_envelope, envelope_spectrum, whitened
from edge.analytics.condition.signal.spectrum import power_spectrum
from edge.core.errors import WrongInput
from edge.core.language import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHINESE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Microsoft YaHei", "SimHei", "PingFang SC", "Heiti SC", "Droid Sans Fallback",
)  # fmt: skip
COLOURS = {"bpfo": "tab:red", "bpfi": "tab:orange", "bsf2": "tab:green", "ftf": "tab:purple"}
POINTS_MAX = 200_000


def draw(path: Path, name: str, block: NDArray[np.float64], rate_hz: float, rpm: float, result: Diagnosis) -> None:
    """Write the picture of the record of this name; the ending of the file chooses its format.

    Raises:
        WrongInput: matplotlib is missing, the ending is no format it knows, or the file cannot be written.
    """
    figure = _figure()
    evidence, evidence_fonts = _readable(result.verdict.evidence)
    time, spectrum, envelope = figure.subplots(3, 1)
    places, heights = _outline(block / STANDARD_GRAVITY)
    time.plot(places / rate_hz, heights, linewidth=0.4)
    time.set(xlabel="s", ylabel="g", title="time")
    title, fonts = _readable(f"{name} · ")
    figure.suptitle(title + result.verdict.fault, fontsize=14, family=fonts)
    figure.supxlabel(evidence, fontsize=9, family=evidence_fonts)
    good = np.where(np.isfinite(block), block, 0.0)
    frequencies, power = power_spectrum(good, rate_hz)
    places, heights = _outline(np.sqrt(2 * power) / STANDARD_GRAVITY + 1e-12)
    spectrum.semilogy(places * frequencies[1], heights, linewidth=0.4)
    spectrum.set(xlabel="Hz", ylabel="g (peak)", title="spectrum")
    if result.lines:
        strongest, best = max(result.lines.items(), key=lambda item: item[1].level_db)
        judged = middle(good, rate_hz, rpm)
        hz = rate_hz / judged.size
        amplitudes = envelope_spectrum(band_envelope(whitened(judged), hz, best.band))
        top = min(1.15 * HARMONICS * max(line.hz for line in result.lines.values()), amplitudes.size * hz)
        shown = amplitudes[: int(top / hz)] / np.median(amplitudes)
        envelope.plot(np.arange(shown.size) * hz, shown, linewidth=0.5, color="black")
        for family, line in result.lines.items():
            at = line.found_hz if line.chance <= P_FALSE_ALARM else line.hz
            for harmonic in range(1, HARMONICS + 1):
                label = f"{family.upper()} {at:.1f} Hz, {line.level_db:.1f} dB" if harmonic == 1 else None
                envelope.axvline(
                    harmonic * at, color=COLOURS[family], alpha=0.6 if family == strongest else 0.25,
                    linestyle="--", linewidth=1, label=label,
                )  # fmt: skip
        envelope.axvline(rpm / 60, color="grey", linewidth=0.8, label=f"1x {rpm / 60:.2f} Hz")
        envelope.legend(loc="upper right", fontsize=8)
        title = f"squared envelope spectrum, whitened, {best.band[0]:.0f}–{best.band[1]:.0f} Hz"
        envelope.set(xlabel="Hz", ylabel="times the median", xlim=(0, top), title=title)
    else:
        envelope.set_axis_off()
    _save(figure, path)


def draw_motor(
    path: Path, name: str, block: NDArray[np.float64], rate_hz: float, found: CurrentSpectrum | None
) -> None:
    """Write the picture of the record of this name, a motor's current: time, and the spectrum to twice the supply with
    its lines marked, where it was judged.

    Raises:
        WrongInput: as `draw`.
    """
    figure = _figure()
    time, spectrum = figure.subplots(2, 1)
    places, heights = _outline(block)
    time.plot(places / rate_hz, heights, linewidth=0.4)
    time.set(xlabel="s", ylabel="A", title="time")
    title, fonts = _readable(name)
    figure.suptitle(title, fontsize=14, family=fonts)
    frequencies, power = power_spectrum(np.where(np.isfinite(block), block, 0.0), rate_hz)
    highest = int(power[1:].argmax()) + 1
    decibel = 10 * np.log10(np.maximum(power / max(power[highest], 1e-30), 1e-12))
    supply = found.supply_hz if found else frequencies[highest]
    spectrum.plot(frequencies, decibel, linewidth=0.5, color="black")
    for number, (term, line) in enumerate((found.lines if found else {}).items()):
        label = f"{term} {line.hz:.2f} Hz, {line.level_db:.1f} dB"
        style = "-" if line.is_visible else ":"
        spectrum.axvline(line.hz, color=f"C{number % 10}", linestyle=style, alpha=0.6, linewidth=1, label=label)
    if found and found.lines:
        spectrum.legend(loc="upper right", fontsize=8)
    spectrum.set(
        xlabel="Hz", ylabel="dB below the highest line", xlim=(0, 2 * supply), ylim=(-100, 5), title="spectrum"
    )
    _save(figure, path)


def _figure() -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise WrongInput(
            say("pictures are drawn with matplotlib, which is not installed"),
            say("install it: {command}", command=INSTALL),
        ) from error
    return Figure(figsize=(11, 9), layout="constrained")


def _save(figure: "Figure", path: Path) -> None:
    try:
        figure.savefig(path, dpi=130)
    except (ValueError, OSError) as error:
        raise WrongInput(
            say("{file} cannot be written: {error}", file=path, error=error), say("name a .png or .svg file")
        ) from error


def _outline(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return places and values to draw; of many, the lowest and highest of each stretch: no peak is lost."""
    step = max(1, 2 * values.size // POINTS_MAX)
    if step == 1:
        return np.arange(values.size, dtype=np.float64), values
    stretches = values[: values.size // step * step].reshape(-1, step)
    places = np.repeat(np.arange(len(stretches)) * float(step), 2)
    return places, np.stack([stretches.min(axis=1), stretches.max(axis=1)], axis=1).ravel()


def _readable(text: str) -> tuple[str, list[str]]:
    """Return what can be drawn of a text, and with which fonts; nothing of Chinese where no font of it is installed."""
    from matplotlib import font_manager

    fonts = ["DejaVu Sans"]
    if any(letter > "\u2e80" for letter in text):
        known = {font.name for font in font_manager.fontManager.ttflist}
        chinese = [name for name in CHINESE_FONTS if name in known]
        if not chinese:
            return "", fonts
        fonts = [*chinese[:1], *fonts]
    return text, fonts
