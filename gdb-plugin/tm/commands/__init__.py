"""The commands of tm.  Importing this package declares them, register()
defines them in gdb.

May use: gdb and the rest of tm.  Nothing else in tm may import it.
"""

from typing import Any, Dict, Optional

from tm import follow, frames, launch, process, settings
from tm.commands import framework, functions, machine
from tm.sampling import Sampling

# In the order of the help.
from tm.commands import tracing  # noqa: F401
from tm.commands import doctor  # noqa: F401
from tm.commands import snapshots  # noqa: F401
from tm.commands import reports  # noqa: F401
from tm.commands import overview  # noqa: F401
from tm.commands import exports  # noqa: F401
from tm.commands import live  # noqa: F401
from tm.commands import filters  # noqa: F401
from tm.commands import domains  # noqa: F401

from tm.commands import window


def register(kept: Optional[Dict[str, Any]] = None) -> None:
    """Define the commands and settings; with what an earlier loading handed on."""
    kept = kept or {}
    settings.register()
    frames.register(kept.get("helper_symbols", {}))
    launch.register()
    follow.register()
    framework.register()
    functions.register()
    machine.register()
    window.register()
    if kept.get("armed"):
        limit, chosen = kept["armed"]
        process.arm(limit, Sampling(*chosen))


def unregister() -> Dict[str, Any]:
    """Let go of what would outlive a second loading; returns what that must know."""
    kept = {"armed": launch.armed(), "helper_symbols": frames.unregister()}
    framework.unregister()
    window.unregister()
    launch.unregister()
    follow.unregister()
    return kept
