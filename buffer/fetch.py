"""What a reader needs of a database, whoever owns the connection."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

Fetch: TypeAlias = Callable[[str, tuple[Any, ...]], Awaitable[Iterable[Any]]]
"""Runs a query with its parameters and returns all rows."""
