"""The command `yulink`. Each subcommand's code is imported only when it is called, so `--help` is quick."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

from edge.agent.arguments import agent, brain, commissioning, figures
from edge.core.errors import ConfigError, WrongInput, YulinkError
from edge.core.language import say

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_WRONG_INPUT = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    arguments = parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except ConfigError as error:
        from edge.agent.configuration.located import render_all

        print(render_all(error), file=sys.stderr)
        return EXIT_WRONG_INPUT
    except YulinkError as error:
        print(say("error: {message}", message=error.message), file=sys.stderr)
        if error.hint:
            print(say("help: {hint}", hint=error.hint), file=sys.stderr)
        return EXIT_WRONG_INPUT if isinstance(error, WrongInput) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`yulink receive | head`): not a failure, and nothing left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def parser() -> argparse.ArgumentParser:
    """Return the whole command line: every command with its options, help and examples."""
    top = argparse.ArgumentParser(
        prog="yulink",
        description=say("Industrial edge gateway: reads machines, keeps everything, delivers it to the brain."),
    )
    top.add_argument("--version", action="version", version=f"yulink {version('yulink')}")
    commands = top.add_subparsers(title=say("commands"), metavar=say("COMMAND"), required=True)
    agent.add(commands)
    commissioning.add(commands)
    figures.add(commands)
    brain.add(commands)
    return top


if __name__ == "__main__":
    sys.exit(main())
