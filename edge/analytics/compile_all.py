"""Compile every kernel once, into the cache beside its source: `python -m edge.analytics.compile_all`.

Each kernel has its signature, so importing its module compiles it; processes that start together later need not.
"""

import pkgutil
from importlib import import_module

import edge.analytics


def main() -> None:
    """Import all of analytics."""
    for module in pkgutil.walk_packages(edge.analytics.__path__, "edge.analytics."):
        if not module.name.endswith((".worker", ".compile_all")):
            import_module(module.name)


if __name__ == "__main__":
    main()
