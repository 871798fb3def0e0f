"""Read by every gdb that starts: makes the command `tm` known.

Installed by tm's `make install`, which put the name of the folder in; `make
uninstall` takes it away.  Must do nothing when that folder has gone.
"""

import os
import sys

FOLDER = "@FOLDER@"

if os.path.exists(os.path.join(FOLDER, "tm_autoload.py")):
    if FOLDER not in sys.path:
        sys.path.append(FOLDER)
    import tm_autoload  # noqa: F401
