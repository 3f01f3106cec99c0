"""Rolling bearings: geometry, fault lines and the verdict on one record."""
