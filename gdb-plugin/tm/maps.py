"""The memory map of a process, from the text of /proc/PID/maps (proc(5)).

Parsing and arithmetic alone: no gdb, no process.
"""

from typing import Iterator, List, NamedTuple, Optional

PAGE = 4096


class Mapping(NamedTuple):
    """One line: start <= address < end."""

    start: int
    end: int
    permissions: str
    offset: int
    inode: int
    path: str


def parse(text: str) -> List[Mapping]:
    """The mappings, lowest first; a line that is none is left out."""
    mappings = []
    for line in text.splitlines():
        fields = line.split(None, 5)
        if len(fields) < 5 or "-" not in fields[0]:
            continue
        start, end = fields[0].split("-", 1)
        path = fields[5] if len(fields) > 5 else ""
        mappings.append(
            Mapping(
                int(start, 16),
                int(end, 16),
                fields[1],
                int(fields[2], 16),
                int(fields[4]),
                path.encode("latin-1", "replace").decode("unicode_escape", "replace")
                if "\\" in path
                else path,
            )
        )
    return mappings


class MappedFile(NamedTuple):
    """A file that is mapped with executable pages: an object of the process."""

    path: str
    start: int
    end: int


def mapped_files(mappings: List[Mapping]) -> Iterator[MappedFile]:
    """The objects with code, in the order of their addresses.

    One object is a run of mappings of one inode that begins at file offset 0.
    """
    current: Optional[List[Mapping]] = None
    runs: List[List[Mapping]] = []
    for mapping in mappings:
        if not mapping.inode:
            # .bss and RELRO gaps lie between an object's mappings.
            continue
        same = current and current[0].path == mapping.path and current[0].inode == mapping.inode
        if same and mapping.offset != 0:
            current.append(mapping)
        elif same and mapping.start == current[-1].end:
            current.append(mapping)
        else:
            current = [mapping]
            runs.append(current)
    for run in runs:
        if run[0].offset == 0 and any("x" in mapping.permissions for mapping in run):
            yield MappedFile(run[0].path, run[0].start, run[-1].end)


def free_gap_below(mappings: List[Mapping], start: int, end: int, size: int) -> Optional[int]:
    """An address for `size` bytes below `start` from which start … end is in reach of rel32.

    Below, because what lies above may be a heap that wants to grow.
    """
    reach = (1 << 31) - (1 << 20)
    ceiling = start
    for mapping in reversed([mapping for mapping in mappings if mapping.start < start]):
        if ceiling - mapping.end >= size + PAGE:
            break
        ceiling = mapping.start
    address = (ceiling - size) & ~(PAGE - 1)
    floor = max([mapping.end for mapping in mappings if mapping.end <= ceiling], default=65536)
    if address < max(floor, 65536) or end - address > reach:
        return None
    return address


def stack_top(mappings: List[Mapping], pointer: int) -> int:
    """The end of the mapping that pointer is in; 0 when it is in none."""
    for mapping in mappings:
        if mapping.start <= pointer < mapping.end:
            return mapping.end
    return 0
