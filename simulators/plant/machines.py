"""The machines' physics. Each is stepped with a fixed step; the same seed gives the same history."""

import math
import random
from dataclasses import dataclass, field
from enum import IntEnum

STEP_S = 0.1


class ProgramState(IntEnum):
    """`progStatus` of a Siemens 840D control: what its program does."""

    INTERRUPTED = 1
    STOPPED = 2
    RUNNING = 3
    WAITING = 4
    ABORTED = 5


@dataclass(frozen=True)
class Operation:
    """A step of a part programme: its length, spindle speed, feed and mean spindle load."""

    tool: int
    seconds: float
    speed_rpm: float
    feed_mm_min: float
    load_percent: float


PROGRAMS: dict[str, tuple[Operation, ...]] = {
    "法兰-7": (
        Operation(1, 4.0, 1200.0, 300.0, 38.0),
        Operation(3, 6.0, 3200.0, 900.0, 52.0),
        Operation(7, 3.0, 5200.0, 1400.0, 24.0),
    ),
    "BUSHING-40": (Operation(2, 5.0, 2400.0, 600.0, 45.0), Operation(5, 4.0, 4100.0, 1100.0, 30.0)),
}
ALARMS = {700012: "Coolant level low", 25201: "Axis X servo fault", 10203: "Channel without reference point"}
SETUP_S = 2.0
ALARM_S = 6.0
ALARM_CHANCE_PER_S = 0.004
AMBIENT_C = 22.0
SPINDLE_TIME_CONSTANT_S = 600.0
SPINDLE_RISE_C = 48.0


@dataclass
class Cnc:
    """Runs part programmes one after the other, now and then interrupted by an alarm."""

    chance: random.Random = field(compare=False)
    state: ProgramState = ProgramState.WAITING
    program: str = "法兰-7"
    operation: int = 0
    parts: int = 0
    alarm: int = 0
    spindle_temperature_c: float = AMBIENT_C
    spindle_speed_rpm: float = 0.0
    spindle_load_percent: float = 0.0
    feed_mm_min: float = 0.0
    axis_load_percent: dict[str, float] = field(default_factory=lambda: {"x": 0.0, "y": 0.0, "z": 0.0})
    _left_s: float = SETUP_S

    @property
    def tool(self) -> int:
        """The tool in the spindle."""
        return PROGRAMS[self.program][self.operation].tool

    @property
    def power_w(self) -> float:
        """Electrical power: the cabinet, and what the spindle takes."""
        return 900.0 + 110.0 * self.spindle_load_percent

    def step(self) -> None:
        """Move on by 0.1 s."""
        self._left_s -= STEP_S
        if self.state is ProgramState.RUNNING and self.chance.random() < ALARM_CHANCE_PER_S * STEP_S:
            self.state, self.alarm, self._left_s = ProgramState.INTERRUPTED, self.chance.choice([*ALARMS]), ALARM_S
        elif self._left_s <= 0:
            self._next()
        target = PROGRAMS[self.program][self.operation] if self.state is ProgramState.RUNNING else None
        self.spindle_speed_rpm += ((target.speed_rpm if target else 0.0) - self.spindle_speed_rpm) * 0.25
        self.feed_mm_min = target.feed_mm_min if target else 0.0
        wanted = target.load_percent * (1 + 0.08 * self.chance.gauss(0, 1)) if target else 0.0
        self.spindle_load_percent = max(0.0, self.spindle_load_percent + (wanted - self.spindle_load_percent) * 0.4)
        for axis, share in (("x", 0.5), ("y", 0.35), ("z", 0.7)):
            noise = abs(self.chance.gauss(0, 1.5))
            self.axis_load_percent[axis] = self.spindle_load_percent * share + noise
        goal = AMBIENT_C + SPINDLE_RISE_C * self.spindle_load_percent / 100
        self.spindle_temperature_c += (goal - self.spindle_temperature_c) * STEP_S / SPINDLE_TIME_CONSTANT_S

    def _next(self) -> None:
        match self.state:
            case ProgramState.WAITING | ProgramState.INTERRUPTED:
                self.state, self.alarm = ProgramState.RUNNING, 0
            case _ if self.operation + 1 < len(PROGRAMS[self.program]):
                self.operation += 1
            case _:
                self.parts += 1
                self.operation = 0
                self.program = self.chance.choice([*PROGRAMS])
                self.state, self._left_s = ProgramState.WAITING, SETUP_S
                return
        self._left_s = PROGRAMS[self.program][self.operation].seconds


@dataclass
class Plc:
    """A filling line: a tank that a pump fills and a valve empties, and a conveyor that counts bottles."""

    chance: random.Random = field(compare=False)
    level_percent: float = 50.0
    pump_runs: bool = True
    pressure_bar: float = 4.0
    flow_m3_h: float = 0.0
    bottles: int = 4_294_960_000  # passes 2^32 after a while: the 32-bit counter rolls over, the 64-bit one does not
    rejects: int = 12
    cycles: int = 0
    recipe: str = "Mineralwasser-0.5L"

    @property
    def power_w(self) -> float:
        """Electrical power of pump and conveyor."""
        return 350.0 + (2200.0 if self.pump_runs else 0.0)

    def step(self) -> None:
        """Move on by 0.1 s."""
        self.cycles += 1
        if self.level_percent > 85:
            self.pump_runs = False
        elif self.level_percent < 30:
            self.pump_runs = True
        self.flow_m3_h += ((12.0 if self.pump_runs else 0.0) - self.flow_m3_h) * 0.2
        self.level_percent += (self.flow_m3_h * 0.02 - 0.11) * STEP_S * 5
        self.pressure_bar = 3.2 + (1.1 if self.pump_runs else 0.0) + 0.05 * self.chance.gauss(0, 1)
        if self.cycles % 3 == 0:
            self.bottles += 1
            self.rejects += self.chance.random() < 0.01


@dataclass
class Meter:
    """A three-phase meter whose energy register is the integral of the power it shows."""

    chance: random.Random = field(compare=False)
    base_w: float = 1500.0
    import_kwh: float = 48_213.7
    power_w: float = 1500.0
    voltage_v: tuple[float, float, float] = (230.0, 230.0, 230.0)
    power_factor: float = 0.92
    frequency_hz: float = 50.0

    def step(self, machines_w: float) -> None:
        """Move on by 0.1 s with the machines taking `machines_w`."""
        self.power_w = self.base_w + machines_w
        self.import_kwh += self.power_w * STEP_S / 3.6e6
        a, b, c = (230.0 + 1.2 * self.chance.gauss(0, 1) for _ in range(3))
        self.voltage_v = (a, b, c)
        self.frequency_hz = 50.0 + 0.02 * self.chance.gauss(0, 1)
        self.power_factor = 0.86 + 0.08 * min(self.power_w / 12_000, 1)

    @property
    def current_a(self) -> tuple[float, float, float]:
        """Phase currents of a balanced load at the present voltages."""
        a, b, c = (self.power_w / 3 / self.power_factor / volt for volt in self.voltage_v)
        return a, b, c


@dataclass
class Plant:
    """All machines. `advance` keeps up with elapsed time in fixed steps."""

    seed: int = 1
    elapsed_s: float = 0.0

    def __post_init__(self) -> None:
        self.cnc = Cnc(random.Random(f"{self.seed} cnc"))
        self.plc = Plc(random.Random(f"{self.seed} plc"))
        self.meter = Meter(random.Random(f"{self.seed} meter"))
        self._steps = 0

    def advance(self, elapsed_s: float, steps_max: int = 6000) -> None:
        """Step until `elapsed_s` since the start, at most ten simulated minutes a call."""
        due = math.floor(elapsed_s / STEP_S + 1e-9)
        if due - self._steps > steps_max:
            self._steps = due - steps_max
        while self._steps < due:
            self._steps += 1
            self.cnc.step()
            self.plc.step()
            self.meter.step(self.cnc.power_w + self.plc.power_w)
        self.elapsed_s = elapsed_s
