"""Units as people and devices write them: which are the same, and how one is turned into another.

Only what can be said for sure: a unit that is not here equals itself alone. Temperatures are here as differences, as a
rate of change needs them; °C and K differ as readings, so `same` holds them apart.
"""

from collections.abc import Iterator

_KINDS: tuple[tuple[str, ...], ...] = (
    ("degC:1 °C ℃ C Cel CEL Celsius", "K:1 KEL Kelvin", "degF:0.5555555555555556 °F ℉ F FAH Fahrenheit"),
    ("W:1 WTT", "kW:1e3 KWT", "MW:1e6 MAW"),
    ("Wh:1 WHR W·h", "kWh:1e3 KWH kW·h kW.h", "MWh:1e6 MWH MW·h", "GWh:1e9 GWH", "J:2.777777777777778e-4 JOU",
     "kJ:0.2777777777777778 KJO", "MJ:277.77777777777777 3B", "GJ:277777.7777777778 GV"),
    ("VA:1 D46", "kVA:1e3 KVA", "MVA:1e6"),
    ("var:1 VAR D44", "kvar:1e3 KVR kVAr kVar", "Mvar:1e6 MAR"),
    ("V:1 VLT Volt", "mV:1e-3 2Z", "kV:1e3 KVT"),
    ("A:1 AMP Ampere", "mA:1e-3 4K", "kA:1e3 B22"),
    ("Hz:1 HTZ Hertz", "kHz:1e3 KHZ", "MHz:1e6 MHZ"),
    ("rpm:1 RPM r/min 1/min min-1 U/min", "1/s:60 rps RPS"),
    ("Pa:1 PAL", "hPa:1e2 A97", "kPa:1e3 KPA", "MPa:1e6 MPA", "bar:1e5 BAR", "mbar:1e2 MBR", "psi:6894.757293 PS"),
    ("m:1 MTR", "mm:1e-3 MMT", "um:1e-6 µm μm 4H", "cm:1e-2 CMT", "km:1e3 KMT", "in:0.0254 INH"),
    ("m/s:1 MTS", "mm/s:1e-3 C16", "m/min:0.016666666666666666 2X", "mm/min:1.6666666666666667e-5 H81"),
    ("m/s2:1 m/s² m/s^2 MSK", "mm/s2:1e-3 mm/s² C42", "g:9.80665 g_n K40"),
    ("kg:1 KGM", "t:1e3 TNE"),
    ("N:1 NEW", "kN:1e3 B47"),
    ("Nm:1 N·m N.m NU", "kNm:1e3 kN·m B48"),
    ("m3:1 m³ m^3 MTQ", "L:1e-3 l LTR", "mL:1e-6 ml MLT"),
    ("m3/h:1 m³/h MQH", "L/min:0.06 l/min L2", "L/h:1e-3 l/h E32", "L/s:3.6 l/s G51", "m3/s:3600 m³/s MQS"),
    ("%:1 P1 percent", "ppm:1e-4 59"),
    ("s:1 SEC sec", "ms:1e-3 C26", "us:1e-6 µs μs B98", "min:60 MIN", "h:3600 HUR hr"),
    ("deg:1 ° DD", "rad:57.29577951308232 C81"),
)  # fmt: skip
"""Each a quantity: a unit with its size and what else it is called, last by its code in UN/ECE Recommendation 20."""


def _units() -> Iterator[tuple[str, tuple[int, str, float]]]:
    for number, kind in enumerate(_KINDS):
        for unit in kind:
            first, *others = unit.split(" ")
            name, _, size = first.rpartition(":")
            for word in (name, *others):
                yield word, (number, name, float(size))


_UNITS = dict(_units())


def is_known(unit: str) -> bool:
    """Tell whether a unit is one of those in this table."""
    return unit.strip() in _UNITS


def same(one: str, other: str) -> bool | None:
    """Tell whether two units are the same one; None where they are written differently and one is not known."""
    one, other = one.strip(), other.strip()
    if one == other:
        return True
    if one not in _UNITS or other not in _UNITS:
        return None
    return _UNITS[one][:2] == _UNITS[other][:2]


def factor(source: str, target: str) -> float | None:
    """Return what an amount of `source` is to be multiplied by to be one of `target`; None where it is no such unit.

    Of temperatures it is that of a difference.
    """
    if source.strip() == target.strip():
        return 1.0
    if not (is_known(source) and is_known(target)):
        return None
    (kind, _, size), (other, _, other_size) = _UNITS[source.strip()], _UNITS[target.strip()]
    return size / other_size if kind == other else None
