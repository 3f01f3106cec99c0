"""The simulated plant on real sockets and a real serial line, with the configuration that reads it."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from edge.core.errors import WrongInput
from edge.core.language import say
from simulators.faults import FaultLine, SteppedClock, fault_line
from simulators.modbus import Server, Unit, serve_serial, serve_tcp
from simulators.opcua import SimulatedServer, Variable, serve_opcua
from simulators.plant.machines import ALARMS, Plant
from simulators.plant.vibration import SAMPLES, to_int16, velocity_rms_mm_s, waveform

DEVICES = ("cnc-07", "plc-1", "incomer", "pump-3")
SCENARIOS = {
    "demo": DEVICES,
    "cnc": ("cnc-07",),
    "plc": ("plc-1",),
    "meter": ("incomer",),
    "vibration": ("pump-3",),
}
TICK_S = 0.1
PASSWORD = "spindle-4711"

_CNC = {
    "state": ("/Channel/State/progStatus", "Int32", ""),
    "program": ("/Channel/ProgramInfo/progName", "String", ""),
    "parts": ("/Channel/State/totalParts", "UInt32", "pcs"),
    "tool": ("/Channel/State/actTNumber", "UInt16", ""),
    "spindle_speed": ("/Channel/Spindle/actSpeed", "Double", "rpm"),
    "spindle_load": ("/Channel/Spindle/driveLoad", "Double", "%"),
    "spindle_temp": ("/Channel/Spindle/temperature", "Double", "degC"),
    "feed": ("/Channel/MachineAxis/actFeedRate", "Double", "mm/min"),
    "alarm": ("/Bag/Alarm/number", "UInt32", ""),
    "alarm_text": ("/Bag/Alarm/text", "String", ""),
    "load_x": ("/Axis/x/Load", "Double", "%"),
    "load_y": ("/Axis/y/Load", "Double", "%"),
    "load_z": ("/Axis/z/Load", "Double", "%"),
}
_METER = {
    "u_a": (0x2006, 10.0, "V"), "u_b": (0x2008, 10.0, "V"), "u_c": (0x200A, 10.0, "V"),
    "i_a": (0x200C, 1000.0, "A"), "i_b": (0x200E, 1000.0, "A"), "i_c": (0x2010, 1000.0, "A"),
    "p_total": (0x2012, 10.0, "W"), "pf": (0x202A, 1000.0, ""), "frequency": (0x2044, 100.0, "Hz"),
    "energy_import": (0x401E, 1.0, "kWh"),
}  # fmt: skip


@dataclass
class RunningPlant:
    """A plant that is served. `configuration` is the `devices:` part that reads it, `secrets` what it refers to."""

    plant: Plant
    configuration: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    lines: dict[str, FaultLine] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    clocks: dict[str, SteppedClock] = field(default_factory=dict)


@asynccontextmanager
async def serve(scenario: str, seed: int = 1) -> AsyncIterator[RunningPlant]:
    """Serve a scenario's devices while the block runs.

    Raises:
        WrongInput: there is no such scenario.
    """
    if scenario not in SCENARIOS:
        raise WrongInput(
            say("there is no scenario {name!r}", name=scenario), say("scenarios: {names}", names=", ".join(SCENARIOS))
        )
    running = RunningPlant(Plant(seed))
    began = time.monotonic()

    def catch_up() -> None:
        running.plant.advance(time.monotonic() - began)

    async with AsyncExitStack() as closing:
        devices = SCENARIOS[scenario]
        if "plc-1" in devices:
            await _serve_plc(closing, running, catch_up)
        if "pump-3" in devices:
            await _serve_vibration(closing, running, seed)
        if "incomer" in devices:
            await _serve_meter(closing, running, catch_up)
        if "cnc-07" in devices:
            await _serve_cnc(closing, running, catch_up)
        yield running


async def _behind_line(closing: AsyncExitStack, running: RunningPlant, name: str, server: Server) -> str:
    line = await closing.enter_async_context(fault_line(server.host, server.port))
    running.lines[name] = line
    return f"tcp://{line.host}:{line.port}"


async def _serve_plc(closing: AsyncExitStack, running: RunningPlant, catch_up: Any) -> None:
    unit, plc = Unit(), running.plant.plc

    def refresh() -> None:
        catch_up()
        unit.put("holding", 0, "u32", plc.bottles % 2**32)
        unit.put("holding", 2, "u64", plc.bottles)
        unit.put("holding", 6, "u16", plc.rejects)
        unit.put("holding", 7, "u16", plc.pump_runs << 0 | (plc.level_percent > 85) << 5)
        unit.put("holding", 8, "string[20]", plc.recipe)
        unit.put("input", 0, "i16", round(plc.level_percent * 10))
        unit.put("input", 1, "i16", round(plc.pressure_bar * 100))
        unit.put("input", 2, "f32", plc.flow_m3_h, "CDAB")
        unit.put("coil", 0, "bool", [plc.pump_runs, not plc.pump_runs])
        unit.put("discrete", 0, "bool", [plc.level_percent < 30, plc.level_percent > 85])

    refresh()
    unit.refresh = refresh
    running.units["plc-1"] = unit
    server = await closing.enter_async_context(serve_tcp({1: unit}))
    running.configuration["plc-1"] = {
        "modbus": await _behind_line(closing, running, "plc-1", server),
        "id": 1,
        "every": "200ms",
        "tags": {
            "bottles": {"at": "holding/0", "type": "u32", "unit": "pcs"},
            "bottles_total": {"at": "holding/2", "type": "u64", "unit": "pcs"},
            "rejects": {"at": "holding/6", "unit": "pcs"},
            "pump_runs": {"at": "holding/7", "bit": 0},
            "overfull": {"at": "holding/7", "bit": 5},
            "recipe": {"at": "holding/8", "type": "string[20]", "every": "1s"},
            "level": {"at": "input/0", "type": "i16", "scale": 0.1, "unit": "%", "valid": [0, 100]},
            "pressure": {"at": "input/1", "type": "i16", "scale": 0.01, "unit": "bar"},
            "flow": {"at": "input/2", "type": "f32", "order": "CDAB", "unit": "m3/h"},
            "valve_{in,out}": {"at": "coil/0"},
            "limit_{low,high}": {"at": "discrete/0"},
        },
    }


async def _serve_vibration(closing: AsyncExitStack, running: RunningPlant, seed: int) -> None:
    unit = Unit()
    began = time.monotonic()
    made_at = [-1.0]

    def refresh() -> None:
        elapsed_s = time.monotonic() - began
        if elapsed_s - made_at[0] < 1.0:  # the sensor measures once a second; its registers belong to one block
            return
        made_at[0] = elapsed_s
        block = waveform(seed, elapsed_s)
        for place, axis_gain in enumerate((1.0, 0.7, 0.4)):
            unit.put("input", 2 * place, "f32", velocity_rms_mm_s(block) * axis_gain, "CDAB")
        unit.put("input", 6, "i16", round((41 + 6 * (1 - 2.718 ** (-elapsed_s / 300))) * 10))
        unit.put("holding", 1000, "i16", to_int16(block).tolist())

    refresh()
    unit.refresh = refresh
    running.units["pump-3"] = unit
    server = await closing.enter_async_context(serve_tcp({1: unit}))
    running.configuration["pump-3"] = {
        "modbus": await _behind_line(closing, running, "pump-3", server),
        "id": 1,
        "every": "1s",
        "tags": {
            "velocity_{x,y,z}": {"at": "input/0", "type": "f32", "order": "CDAB", "unit": "mm/s"},
            "temperature": {"at": "input/6", "type": "i16", "scale": 0.1, "unit": "degC", "valid": [-40, 150]},
            "waveform": {
                "at": "holding/1000",
                "type": f"i16[{SAMPLES}]",
                "rate": "6.4 kHz",
                "full_scale": "8 g",
                "every": "10s",
            },
        },
    }


async def _serve_meter(closing: AsyncExitStack, running: RunningPlant, catch_up: Any) -> None:
    unit, meter = Unit(), running.plant.meter

    def refresh() -> None:
        catch_up()
        values = (
            *meter.voltage_v,
            *meter.current_a,
            meter.power_w,
            meter.power_factor,
            meter.frequency_hz,
            meter.import_kwh,
        )
        for (address, factor, _), value in zip(_METER.values(), values, strict=True):
            unit.put("holding", address, "f32", value * factor)

    refresh()
    unit.refresh = refresh
    running.units["incomer"] = unit
    server = await closing.enter_async_context(serve_serial({3: unit}, baud=9600))
    running.configuration["incomer"] = {
        "modbus": server.url,
        "id": 3,
        "every": "1s",
        "limits": {"gap": 2},
        "tags": {
            name: {"at": f"holding/{address}", "type": "f32", "scale": 1 / factor, "unit": unit_name}
            if factor != 1
            else {"at": f"holding/{address}", "type": "f32", "unit": unit_name}
            for name, (address, factor, unit_name) in _METER.items()
        },
    }


async def _serve_cnc(closing: AsyncExitStack, running: RunningPlant, catch_up: Any) -> None:
    nodes = {name: f"ns=2;s={path}" for name, (path, _, _) in _CNC.items()}
    first = _cnc_values(running.plant)
    variables = [Variable(nodes[name], first[name], kind) for name, (_, kind, _) in _CNC.items()]
    server = await closing.enter_async_context(
        serve_opcua(variables, security=("sign+encrypt",), users={"reader": PASSWORD}, allow_anonymous=False)
    )
    host, port = server.url.removeprefix("opc.tcp://").partition("/")[0].split(":")
    line = await closing.enter_async_context(fault_line(host, int(port)))
    running.lines["cnc-07"] = line
    running.secrets["cnc-07"] = PASSWORD
    running.configuration["cnc-07"] = {
        "opcua": f"opc.tcp://{line.host}:{line.port}/yulink",
        "login": {"user": "reader", "secret": "cnc-07"},
        "security": "sign+encrypt",
        "trust": server.sha256,
        "every": "200ms",
        "tags": {name: {"node": nodes[name], "unit": unit} for name, (_, _, unit) in _CNC.items()},
    }
    clock = running.clocks["cnc-07"] = SteppedClock()
    writing = asyncio.create_task(
        _write_cnc(server, running.plant, nodes, first, catch_up, clock), name="simulated CNC"
    )

    async def stop() -> None:
        writing.cancel()
        await asyncio.wait([writing])

    closing.push_async_callback(stop)


def _cnc_values(plant: Plant) -> dict[str, Any]:
    cnc = plant.cnc
    return {
        "state": int(cnc.state),
        "program": cnc.program,
        "parts": cnc.parts,
        "tool": cnc.tool,
        "spindle_speed": round(cnc.spindle_speed_rpm, 1),
        "spindle_load": round(cnc.spindle_load_percent, 2),
        "spindle_temp": round(cnc.spindle_temperature_c, 2),
        "feed": cnc.feed_mm_min,
        "alarm": cnc.alarm,
        "alarm_text": ALARMS.get(cnc.alarm, ""),
        **{f"load_{axis}": round(load, 2) for axis, load in cnc.axis_load_percent.items()},
    }


async def _write_cnc(
    server: SimulatedServer,
    plant: Plant,
    nodes: dict[str, str],
    shown: dict[str, Any],
    catch_up: Any,
    clock: SteppedClock,
) -> None:
    """Write what has changed to the server ten times a second, with the machine's own time."""
    while True:
        await asyncio.sleep(TICK_S)
        catch_up()
        now = _cnc_values(plant)
        for name, value in now.items():
            if value != shown[name]:
                await server.write(nodes[name], value, source_ts=clock.now())
        shown = now


@dataclass(frozen=True)
class FaultWindow:
    """A fault of one device from `start_s` on, for `length_s`."""

    device: str
    fault: str
    start_s: float
    length_s: float
    code: int = 4


LINE_FAULTS = ("refuse", "cut", "freeze", "delay", "garbage")
SLAVE_FAULTS = ("exception", "wrong", "silent")
FAULTS = (*LINE_FAULTS, *SLAVE_FAULTS, "clock")
CLOCK_STEP_S = 3600.0


def parse_fault(text: str) -> FaultWindow:
    """Return the window written as `plc-1:freeze@10s+5s`. Raises WrongInput.

    `exception` may name its Modbus code, as in `plc-1:exception-6@10s+5s`; alone it is 4, a device failure.
    """
    hint = say("write device:fault@start+length, e.g. plc-1:freeze@10s+5s; faults: {names}", names=", ".join(FAULTS))
    device, _, rest = text.partition(":")
    fault, _, times = rest.partition("@")
    start, _, length = times.partition("+")
    try:
        fault, _, code = fault.partition("-")
        window = FaultWindow(
            device, fault, float(start.removesuffix("s")), float(length.removesuffix("s")), int(code or 4)
        )
    except ValueError as error:
        raise WrongInput(say("{text!r} is not a fault", text=text), hint) from error
    in_time = 0 <= window.start_s < math.inf and 0 < window.length_s < math.inf
    if device not in DEVICES or fault not in FAULTS or not in_time or not 1 <= window.code <= 255:
        raise WrongInput(say("{text!r} is not a fault", text=text), hint)
    return window


def check_fault(running: RunningPlant, window: FaultWindow) -> None:
    """Raise WrongInput for a fault the device cannot have.

    Faults of the line need a TCP device, faults of the slave a Modbus device, and only the CNC has a clock.
    """
    able = {
        **dict.fromkeys(LINE_FAULTS, running.lines.keys()),
        **dict.fromkeys(SLAVE_FAULTS, running.units.keys()),
        "clock": running.clocks.keys(),
    }[window.fault]
    if window.device not in able:
        raise WrongInput(
            say("{device} cannot have the fault {fault}", device=window.device, fault=window.fault),
            say("devices that can: {names}", names=", ".join(able) or "–"),
        )


async def _disturb(running: RunningPlant, window: FaultWindow) -> None:
    """Play one fault window."""
    line, unit = running.lines.get(window.device), running.units.get(window.device)
    clock = running.clocks.get(window.device)
    await asyncio.sleep(window.start_s)
    match window.fault:
        case "refuse" | "cut" if line:
            line.refuse()
            line.cut()
        case "freeze" if line:
            line.freeze()
        case "delay" if line:
            line.delay(0.5)
        case "garbage" if line:
            line.garbage()
        case "exception" if unit:
            unit.exception_always = window.code
        case "wrong" if unit:
            unit.wrong = "transaction" if line else "unit"
        case "silent" if unit:
            unit.silent = True
        case "clock" if clock:
            clock.step(CLOCK_STEP_S)
    await asyncio.sleep(window.length_s)
    if line:
        line.heal()
    if unit:
        unit.exception_always, unit.wrong, unit.silent = None, None, False
    if clock and window.fault == "clock":
        clock.step(-CLOCK_STEP_S)


async def simulate(
    scenario: str,
    *,
    seed: int = 1,
    duration_s: float | None = None,
    faults: Sequence[str] = (),
    json_output: bool = False,
) -> None:
    """Serve a scenario until cancelled or for `duration_s`; print where to find it once it is ready."""
    windows = [parse_fault(text) for text in faults]
    async with serve(scenario, seed) as running:
        for window in windows:
            check_fault(running, window)
        listing = {"devices": running.configuration, "secrets": running.secrets}
        print(json.dumps(listing, ensure_ascii=False) if json_output else _yaml(running), flush=True)
        async with asyncio.TaskGroup() as disturbances:
            tasks = [disturbances.create_task(_disturb(running, window)) for window in windows]
            await asyncio.sleep(duration_s if duration_s is not None else 10**9)
            for task in tasks:
                task.cancel()


def _yaml(running: RunningPlant) -> str:
    """Return the plant's `devices:` as YAML: JSON's flow style is YAML too, one tag a line."""
    lines = ["devices:"]
    for name, device in running.configuration.items():
        lines.append(f"  {name}:")
        for key, value in device.items():
            if key == "tags":
                lines.append("    tags:")
                lines += [f"      {json.dumps(tag)}: {json.dumps(tag_settings)}" for tag, tag_settings in value.items()]
            else:
                lines.append(f"    {key}: {json.dumps(value)}")
    lines += [f"# secrets/{name}: {text}" for name, text in running.secrets.items()]
    return "\n".join(lines)
