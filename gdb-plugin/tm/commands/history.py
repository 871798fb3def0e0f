"""What the user typed last.

May use: gdb.
"""

import gdb


def last_history_entry() -> str:
    """Number and text of the line typed last; "" when gdb keeps no history."""
    lines = gdb.execute("show commands", to_string=True).splitlines()
    return lines[-1] if lines else ""
