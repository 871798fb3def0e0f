"""What the reports count: the filters and skipped functions in force,
the settings, and the option -domain.

May use: tm.model, the settings.  Must never change a snapshot: leaving out makes
a new one.
"""

from typing import Any, Callable, Dict, List, Optional

import _tm
from tm import settings
from tm.model import Block, DomainFilter, Traceback
from tm.skipping import skipping_flags

MAX_DOMAIN = _tm.layout["NO_NODE"] - 1

filters: List[Any] = []  # of `tm filter`
skipped: List[str] = []  # of `tm skip`: globs of functions


def apply(snapshot: Any, domain: Optional[int] = None) -> Any:
    """The snapshot as the user wants to see it."""
    if not settings.value("inline"):
        snapshot = snapshot.without_inlined()
    snapshot = snapshot.without_wrappers(skipped, settings.value("skip-allocators"))
    chosen = list(filters)
    if domain is not None:
        snapshot = snapshot.filter_traces([DomainFilter(True, domain)])
    return snapshot.filter_traces(chosen) if chosen else snapshot


def chooser(domain: Optional[int] = None) -> Optional[Callable[[Block], bool]]:
    """Says of a block whether the filters let it pass; None when all do."""
    if domain is None and not filters:
        return None
    include = [each for each in filters if each.inclusive]
    exclude = [each for each in filters if not each.inclusive]

    def passes(block: Block) -> bool:
        if domain is not None and block.domain != domain:
            return False
        frames = apply_to_block(block).traceback[::-1]
        raw = (block.domain, block.size,
               tuple((frame.filename, frame.lineno) for frame in frames), None)
        return (not include or any(each._match(raw) for each in include)) \
            and all(each._match(raw) for each in exclude)

    return passes


def apply_to_block(block: Block, limit: Optional[int] = None) -> Block:
    """The same for a single block, with the `limit` most recent frames of its traceback.

    Filters do not concern it.
    """
    frames = list(block.traceback)[::-1]
    if not settings.value("inline"):
        frames = [frame for frame in frames if not frame.inlined] or frames
    flags = skipping_flags(frames, skipped, settings.value("skip-allocators"))
    wrappers = next((place for place, flag in enumerate(flags) if not flag), 0)
    frames = frames[wrappers:][:limit or None]
    return block._replace(traceback=Traceback(frames, block.traceback.total_nframe))


def apply_to_blocks(blocks: List[Block]) -> List[Block]:
    """The same for many blocks, of which many share a traceback."""
    known: Dict[int, Traceback] = {}
    for block in blocks:
        if id(block.traceback) not in known:
            known[id(block.traceback)] = apply_to_block(block).traceback
    return [block._replace(traceback=known[id(block.traceback)]) for block in blocks]
