"""The simulated plant: a CNC machine, a PLC, a power meter and a vibration sensor, as pure functions of seed and steps."""
