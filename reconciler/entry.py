"""The daemon's way in: what somebody's shell told Python does not reach what runs for years."""

from __future__ import annotations

import os
import sys


def reconcilerd() -> int:
    """Run the daemon; returns its exit code.

    With any `PYTHON…` variable set (PYTHONPATH, PYTHONWARNINGS, PYTHONOPTIMIZE …) the same process begins anew, in an
    interpreter that heeds none of them.
    """
    is_steered = any(name.startswith("PYTHON") for name in os.environ) and not sys.flags.isolated
    if is_steered and sys.executable and os.path.isfile(sys.argv[0]):
        os.execv(sys.executable, [sys.executable, "-I", *sys.argv])
    from reconciler.daemon import main

    return main()
