"""The one place where a kernel becomes machine code, or stays Python where numba is missing."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

HAS_NUMBA = find_spec("numba") is not None
"""Some machines have no wheel of it: there the twins give the same numbers."""

COMPILED = HAS_NUMBA and os.environ.get("NUMBA_DISABLE_JIT", "0") != "1"
"""Whether kernels run as machine code."""


def kernel(signature: str | Callable[[Any], Any], twin: Callable[..., Any] | None = None) -> Callable[[F], F]:
    """Compile a kernel for one signature, without the interpreter's lock; `twin` takes its place without numba.

    `signature` is numba's text, or makes the signature of the module numba, which records need. A kernel without a
    twin runs as the Python it is written in. The compiled code is cached where a place is writable. Where none is,
    numba raises at the definition; then it is compiled at each start, for a start must never fail on a cache.
    """

    def decorate(function: F) -> F:
        if not COMPILED:
            return twin or function  # type: ignore[return-value]
        import numba

        types = signature if isinstance(signature, str) else signature(numba)
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
        compiled: Any
        try:
            compiled = numba.njit(types, cache=True, **options)(function)
        except (RuntimeError, OSError):
            compiled = numba.njit(types, **options)(function)
        return compiled  # type: ignore[no-any-return]

    return decorate
