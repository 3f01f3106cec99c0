"""The one place where a kernel becomes machine code, or stays numpy where numba is missing."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, ParamSpec

P = ParamSpec("P")

HAS_NUMBA = find_spec("numba") is not None
"""Some machines have no wheel of it: there the numpy twins give the same numbers."""

COMPILED = HAS_NUMBA and os.environ.get("NUMBA_DISABLE_JIT", "0") != "1"
"""Whether kernels run as machine code."""


def kernel(signature: str, twin: Callable[P, None]) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Compile a kernel for one signature, without the interpreter's lock; `twin` takes its place without numba.

    The compiled code is cached where a place is writable. Where none is, numba raises at the
    definition; then it is compiled at each start, for a start must never fail on a cache.
    """

    def decorate(function: Callable[P, None]) -> Callable[P, None]:
        if not COMPILED:
            return twin
        import numba

        options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
        try:
            compiled: Callable[P, None] = numba.njit(signature, cache=True, **options)(function)
        except (RuntimeError, OSError):
            compiled = numba.njit(signature, **options)(function)
        return compiled

    return decorate
