"""Shafts of changing speed: pulses of a tacho, angle, orders."""
