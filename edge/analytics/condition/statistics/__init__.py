"""Charts, robust baselines and models of many values, free of any machine."""
