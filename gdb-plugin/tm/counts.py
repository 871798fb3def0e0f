"""Single figures of the traced process, cheap enough for the condition of a breakpoint.

May use: tm.process to find the table, _tm to read it.  Must never take a
snapshot, name a frame, or change the process.
"""

from typing import Any, Dict

import _tm

from . import inferior, process
from .errors import TmError


def counters() -> Dict[str, Any]:
    """Of the whole table: current, peak, blocks and more."""
    found = process._tracing_helper()
    with inferior.fast_reader() as read:
        return _tm.counters(read, found.address)


def block_size(address: int) -> int:
    """Bytes of the traced block that holds the address; -1 when none does."""
    found = process._tracing_helper()
    with inferior.fast_reader() as read:
        block = _tm.find_block(read, found.address, address)
    return -1 if block is None else block[1]


def require_target() -> None:
    """There must be memory to read."""
    if inferior.gdb.selected_inferior().pid == 0 and not inferior.is_core():
        raise TmError('There is no process: use "run" or "attach", then "tm start".')
