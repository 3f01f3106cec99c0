"""From YAML files to settings and to the worker's plan, or to everything that is wrong with them."""
