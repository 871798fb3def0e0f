"""What the reports count: the filters in force, and the option -domain.

May use: tm.model's filters.  Must never change a snapshot: filtering makes a
new one.
"""

from typing import Any, List, Optional

from tm.model import DomainFilter

MAX_DOMAIN = 0xffffffff

active: List[Any] = []


def apply(snapshot: Any, domain: Optional[int] = None) -> Any:
    """The snapshot as the filters and the option -domain let it be seen."""
    filters = list(active)
    if domain is not None:
        snapshot = snapshot.filter_traces([DomainFilter(True, domain)])
    return snapshot.filter_traces(filters) if filters else snapshot
