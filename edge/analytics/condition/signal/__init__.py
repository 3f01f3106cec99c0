"""Samples to spectra, envelopes and features, with their kernels."""
