"""The commands of `yulink`, one module each, and what several of them print with."""
