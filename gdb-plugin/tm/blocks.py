"""The largest live blocks with their addresses, which no snapshot keeps.

May use: tm.process and tm.frames, _tm to read the table.  Must never hold more
blocks than are asked for, and must never change the process.
"""

from typing import Any, Callable, Dict, List, Optional, Tuple

import _tm

from . import frames, inferior, process
from .model import Block, Traceback

MAX_BLOCKS = _tm.MAX_BLOCKS


class _Tracebacks:
    """Names the frames of each traceback once."""

    def __init__(self, header: Dict[str, Any]) -> None:
        self._make = frames.traceback_maker(header)
        self._known: Dict[Tuple[Tuple[int, ...], bool], Traceback] = {}

    def of(self, addresses: List[int], truncated: bool) -> Traceback:
        key = (tuple(addresses), truncated)
        if key not in self._known:
            self._known[key] = self._make(addresses, truncated)
        return self._known[key]


def largest(limit: Optional[int],
            wanted: Optional[Callable[[Block], bool]] = None) -> List[Block]:
    """The largest blocks of the traced process (or core) that are wanted.

    wanted is asked once for each traceback, with a block of it whose address
    and size mean nothing.  No limit: MAX_BLOCKS of them at most.
    """
    found = process._tracing_helper()
    tracebacks = _Tracebacks(found.header)

    def counts(domain: int, addresses: List[int], truncated: bool) -> bool:
        return wanted(Block(0, 0, domain, tracebacks.of(addresses, truncated)))

    with inferior.fast_reader() as read:
        rows = _tm.blocks(read, found.address, MAX_BLOCKS if limit is None else limit,
                          counts if wanted else None)
    return [Block(address, size, domain, tracebacks.of(addresses, truncated))
            for address, size, domain, addresses, truncated in rows]
