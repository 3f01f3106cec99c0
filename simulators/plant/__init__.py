"""The simulated plant: CNC machine, PLC, power meter and vibration sensor, as functions of a seed and of steps."""
