"""Process values of a machine that belong together."""
