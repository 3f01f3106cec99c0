"""Analytics of the gateway. Beside drivers, log and uplink; runs in the worker, or alone in a command."""
