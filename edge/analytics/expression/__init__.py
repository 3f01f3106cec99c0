"""Expressions over tags: read into a tree of known nodes, checked for types and units, evaluated on events."""
