"""`yulink simulate`: simulated devices as a process."""

import argparse
import asyncio
import signal

from simulators.scenario import simulate


def run(arguments: argparse.Namespace) -> int:
    """Serve a scenario until SIGTERM, SIGINT or the duration is over. Returns the exit code."""
    asyncio.run(_serve(arguments))
    return 0


async def _serve(arguments: argparse.Namespace) -> None:
    serving = asyncio.create_task(
        simulate(
            arguments.scenario,
            seed=arguments.seed,
            duration_s=arguments.duration,
            faults=arguments.fault,
            json_output=arguments.json,
        ),
        name="simulated plant",
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    await asyncio.wait([serving])
    if not serving.cancelled():
        await serving
