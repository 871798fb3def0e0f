"""How many blocks there are of which size, in steps of powers of two.

May use the standard library.  Must not import gdb or _tm.
"""

from typing import Iterable, List, NamedTuple, Tuple


class Bucket(NamedTuple):
    """Blocks of low to high bytes, both included."""

    low: int
    high: int
    count: int
    size: int


def histogram(sizes: Iterable[Tuple[int, int, int]]) -> List[Bucket]:
    """From (size, how many, bytes in all), all buckets from the smallest used one to the
    largest."""
    counts, bytes_of = {}, {}
    for size, count, bytes_ in sizes:
        bucket = size.bit_length()
        counts[bucket] = counts.get(bucket, 0) + count
        bytes_of[bucket] = bytes_of.get(bucket, 0) + bytes_
    if not counts:
        return []
    return [Bucket(1 << bucket >> 1, (1 << bucket) - 1, counts.get(bucket, 0),
                   bytes_of.get(bucket, 0))
            for bucket in range(min(counts), max(counts) + 1)]


def median(sizes: Iterable[Tuple[int, int]]) -> int:
    """The size of the block in the middle; of two, the smaller one."""
    ordered = sorted(sizes)
    left = (sum(count for _size, count in ordered) + 1) // 2
    for size, count in ordered:
        left -= count
        if left <= 0:
            return size
    return 0
