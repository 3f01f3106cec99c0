"""Other gateways on the same simulated devices, for the benchmark that sets them beside ours."""
