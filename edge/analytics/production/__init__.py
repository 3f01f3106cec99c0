"""Production: equipment states, parts and the figures of ISO 22400-2."""
