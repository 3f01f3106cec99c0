"""Phase currents of induction motors."""
