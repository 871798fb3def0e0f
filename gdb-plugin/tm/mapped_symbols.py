"""The dynamic symbols of an object out of the memory it is mapped to, for when its
file is gone: as a small ELF file of its own, with nothing else in it.

May use the standard library; the caller's `read`.  Must not import gdb or _tm.
Every number in the memory may be wrong: then ValueError, never a huge read.
"""

import struct
from typing import Callable, Dict, List, Tuple

Read = Callable[[int, int], bytes]  # (address, length)

# gABI: names and numbers of <elf.h>.
ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
DYNAMIC = struct.Struct("<QQ")
SYMBOL_SIZE = 24
PT_DYNAMIC = 2
DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_GNU_HASH = 4, 5, 6, 10, 0x6FFFFEF5
SHT_STRTAB, SHT_DYNSYM = 3, 11
SECTION_NAMES = b"\0.dynsym\0.dynstr\0"

MAX_DYNAMIC = 65536  # bytes
MAX_SYMBOLS = 1 << 20
MAX_STRINGS = 64 << 20


def read_object(read: Read, start: int, bias: int) -> bytes:
    """An ELF file with .dynsym and .dynstr of the 64-bit object whose header is at start."""
    header = ELF_HEADER.unpack(read(start, ELF_HEADER.size))
    if header[0][:6] != b"\x7fELF\x02\x01":
        raise ValueError("no ELF header")
    dynamic = _dynamic(read, start + header[5], header[10], bias)
    missing = {DT_STRTAB, DT_SYMTAB, DT_STRSZ} - dynamic.keys()
    if missing:
        raise ValueError("no dynamic symbols")
    # The GNU C library makes addresses of them where they stand, other loaders do not.
    places = {tag: value if value >= start else value + bias for tag, value in dynamic.items()}
    count = _count(read, places)
    if count > MAX_SYMBOLS or dynamic[DT_STRSZ] > MAX_STRINGS:
        raise ValueError("too many dynamic symbols")
    return _file(header, read(places[DT_SYMTAB], count * SYMBOL_SIZE),
                 read(places[DT_STRTAB], dynamic[DT_STRSZ]))


def _dynamic(read: Read, headers: int, count: int, bias: int) -> Dict[int, int]:
    for kind, _flags, _offset, vaddr, _paddr, _filesz, memsz, _align in \
            PROGRAM_HEADER.iter_unpack(read(headers, count * PROGRAM_HEADER.size)):
        if kind == PT_DYNAMIC and memsz <= MAX_DYNAMIC:
            return dict(DYNAMIC.iter_unpack(read(vaddr + bias, memsz - memsz % DYNAMIC.size)))
    raise ValueError("no dynamic section")


def _words(read: Read, address: int, count: int) -> Tuple[int, ...]:
    if count > MAX_SYMBOLS:
        raise ValueError("the hash table makes no sense")
    return struct.unpack(f"<{count}I", read(address, 4 * count))


def _count(read: Read, places: Dict[int, int]) -> int:
    """How many symbols there are: only the hash tables say so."""
    if DT_GNU_HASH not in places:
        return _words(read, places[DT_HASH], 2)[1] if DT_HASH in places else 0
    at = places[DT_GNU_HASH]
    buckets, first, bloom, _shift = _words(read, at, 4)
    chains = at + 16 + 8 * bloom + 4 * buckets
    last = max(_words(read, chains - 4 * buckets, buckets), default=0)
    if last < first:
        return first
    while last < MAX_SYMBOLS:  # the last symbol of a chain has the lowest bit set
        if _words(read, chains + 4 * (last - first), 1)[0] & 1:
            return last + 1
        last += 1
    raise ValueError("the hash table has no end")


def _file(header: Tuple, symbols: bytes, strings: bytes) -> bytes:
    sections: List[Tuple[int, ...]] = [(0,) * 10]
    body = b""
    for kind, name, link, size, content in (
            (SHT_DYNSYM, 1, 2, SYMBOL_SIZE, symbols), (SHT_STRTAB, 9, 0, 0, strings),
            (SHT_STRTAB, 9, 0, 0, SECTION_NAMES)):
        sections.append((name, kind, 0, 0, ELF_HEADER.size + len(body), len(content), link, 0,
                         8, size))
        body += content + bytes(-len(content) % 8)
    # No program headers; four section headers, the last of which has their names.
    made = header[:5] + (0, ELF_HEADER.size + len(body), header[7], ELF_HEADER.size,
                         PROGRAM_HEADER.size, 0, SECTION_HEADER.size, len(sections),
                         len(sections) - 1)
    return ELF_HEADER.pack(*made) + body + b"".join(
        SECTION_HEADER.pack(*section) for section in sections)
