"""Condition monitoring: features of a waveform, fault lines of a bearing, zones of the standards, the judgement."""
