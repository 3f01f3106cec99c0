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


def kernel(
    signature: str | Callable[[Any], Any],
    twin: Callable[..., Any] | None = None,
    *,
    contract: bool = False,
    finite: bool = False,
    no_overlap: bool = False,
) -> Callable[[F], F]:
    """Compile a kernel for one signature, without the interpreter's lock; `twin` takes its place without numba.

    `signature` is numba's text, or makes the signature of the module numba, which records need. A kernel without a
    twin runs as the Python it is written in. The compiled code is cached where a place is writable. Where none is,
    numba raises at the definition; then it is compiled at each start, for a start must never fail on a cache.

    `contract` lets sums be taken in any order and products be fused with them, which vectorises, `finite` with it also
    minima, where no NaN can come; `no_overlap` says that no two arrays share memory, which vectorises loops over many.
    """

    def decorate(function: F) -> F:
        if not COMPILED:
            return twin or function  # type: ignore[return-value]
        import numba

        types = signature if isinstance(signature, str) else signature(numba)
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
        if contract:
            options["fastmath"] = {"contract", "reassoc", "nsz", *(("nnan",) if finite else ())}
        if no_overlap and _knows_no_overlap():
            options["noalias"] = True
        compiled: Any
        try:
            compiled = numba.njit(types, cache=True, **options)(function)
        except (RuntimeError, OSError):
            compiled = numba.njit(types, **options)(function)
        return compiled  # type: ignore[no-any-return]

    return decorate


def _knows_no_overlap() -> bool:
    """Make numba's own flag an option of `njit`; where a version has it no more, loops are only slower."""
    try:
        from numba.core.compiler import Flags
        from numba.core.cpu import CPUTargetOptions
        from numba.core.options import TargetOptions
    except ImportError:
        return False
    if "noalias" not in Flags.options:
        return False
    CPUTargetOptions.noalias = TargetOptions.Mapping("noalias")  # type: ignore[no-untyped-call]
    return True
