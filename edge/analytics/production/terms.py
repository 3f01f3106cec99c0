"""Equipment states by the terms of ISO 22400-2 and OPC 40001-1 (Machinery). Pure: a check asks it too."""

OTHER = "other"
"""Key of the cycle that holds for every programme without one of its own."""

RUNNING, FAULT, OFF, UNKNOWN = "running", "fault", "off", "unknown"

STATES = (OFF, "idle", "setup", RUNNING, "blocked", "starved", FAULT, "maintenance")
"""States a configuration may name. What is none of them is unknown, which is never off."""
