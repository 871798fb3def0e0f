"""The commands of tm.  Importing this package declares them, register()
defines them in gdb.

May use: gdb and the rest of tm.  Nothing else in tm may import it.
"""

from tm import frames, launch, settings
from tm.commands import framework

# In the order of the help.
from tm.commands import tracing  # noqa: F401
from tm.commands import snapshots  # noqa: F401
from tm.commands import reports  # noqa: F401
from tm.commands import filters  # noqa: F401


def register() -> None:
    """Define the commands and settings; may be called again."""
    settings.register()
    frames.register()
    launch.register()
    framework.register()


def unregister() -> None:
    """Let go of what would outlive a second loading."""
    framework.unregister()
    frames.unregister()
    launch.unregister()
