"""Refuses to run when a top-level package comes from somewhere else: names like `config` or `drivers` are common."""

import importlib.util
from pathlib import Path

from edge.core.errors import YulinkError
from edge.core.language import PACKAGES, say


def check_packages() -> None:
    """Check that all five packages lie beside each other, as this distribution installs them.

    Raises:
        YulinkError: another distribution's package hides one of ours.
    """
    home = Path(__file__).resolve().parents[2]
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve().parents[1] if spec and spec.origin else None
        if found != home:
            raise YulinkError(
                say("the package {name!r} comes from {found}, not from {home}", name=name, found=found, home=home),
                hint=say("install Yulink in a virtual environment of its own"),
            )
