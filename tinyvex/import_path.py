"""
Keep the working directory's files from replacing the standard library's.

`python -m` puts the working directory first on the path, so a file such as `queue.py` in it would be imported instead of
Python's own. As the `tinyvex` command, this package moves the directory to the end, before its first import. An app can
still import modules from it. Programs that import this package are not touched.
"""

from __future__ import annotations

import sys

__all__ = ["is_command"]


def is_command(arguments: list[str], original: list[str]) -> bool:
    """
    Return whether Python is starting `python -m tinyvex`.

    Args:
        arguments: `sys.argv`; while Python looks for the module, its first item is `-m`.
        original: `sys.orig_argv`.
    """
    is_named = "-mtinyvex" in original or ("-m" in original and original[original.index("-m") + 1 :][:1] == ["tinyvex"])
    return arguments[:1] == ["-m"] and is_named


if is_command(sys.argv, sys.orig_argv) and not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))
