"""Domains: allocators of the program's own, traced by the names of their functions.

What the user declared stays for later starts, whatever the process.  Domain 0
is malloc and its family, always on; 1 is mmap, on request.
"""

import re
from typing import Dict, List, NamedTuple, Optional

import _tm
import gdb

from . import grouping, maps, patches
from .allocators import Shape
from .errors import TmError
from .helper import find_functions

_FIRST_OWN = 2

_MMAP = {
    "mmap": Shape("SHAPE_MAP", size=1),
    "munmap": Shape("SHAPE_UNMAP", size=1, block=0),
    "mremap": Shape("SHAPE_REMAP", size=2, block=0),
}


class Domain(NamedTuple):
    """A declared domain: its number and its functions by name."""

    name: str
    number: int
    functions: Dict[str, Shape]


_declared: Dict[str, Domain] = {}
_next_number = _FIRST_OWN

_ALLOC = re.compile(r"(.+?)(?::(\d+)(?:\*(\d+))?)?(?:>(\d+))?\Z")
_FREE = re.compile(r"(.+?)(?::(\d+))?\Z")
_REALLOC = re.compile(r"(.+?)(?::(\d+):(\d+))?\Z")


def _position(text: Optional[str], default: int) -> int:
    """An argument's position, counted from 1 by the user and from 0 by the helper."""
    number = int(text) if text else default
    if not 1 <= number <= 6:
        raise TmError(f"Arguments are counted from 1 to 6, not {number}.")
    return number - 1


def alloc_shape(text: str) -> tuple:
    """`FUNC[:SIZEARG[*COUNTARG]][>PTRARG]`: the name and the shape."""
    name, size, count, store = _ALLOC.match(text).groups()
    return name, Shape(
        "SHAPE_STORE" if store else "SHAPE_ALLOC",
        size=_position(size, 1),
        count=_position(count, 1) if count else None,
        block=_position(store, 1) if store else None,
    )


def free_shape(text: str) -> tuple:
    """`FUNC[:PTRARG]`: the name and the shape."""
    name, block = _FREE.match(text).groups()
    return name, Shape("SHAPE_FREE", block=_position(block, 1))


def realloc_shape(text: str) -> tuple:
    """`FUNC[:PTRARG:SIZEARG]`: the name and the shape."""
    name, block, size = _REALLOC.match(text).groups()
    return name, Shape("SHAPE_REALLOC", block=_position(block, 1), size=_position(size, 2))


def make(name: str, alloc: Optional[str], free: Optional[str], realloc: Optional[str]) -> Domain:
    """A domain from what the user typed; not yet declared."""
    if name in _declared or name == "malloc":
        raise TmError(f"There is a domain {name} already: `tm domain remove {name}` first.")
    if name == "mmap" and not (alloc or free or realloc):
        return Domain(name, _tm.layout["DOMAIN_MMAP"], _MMAP)
    if not re.fullmatch(r"[\w.-]+", name):
        raise TmError(f"A domain's name is letters, digits, `_`, `.` and `-`, not {name!r}.")
    if not alloc or not free:
        raise TmError("A domain needs -alloc FUNC and -free FUNC.")
    functions = dict([alloc_shape(alloc), free_shape(free)])
    if realloc:
        functions.update([realloc_shape(realloc)])
    return Domain(name, _next_number, functions)


def declare(domain: Domain) -> None:
    """Keeps a domain for this start and later ones."""
    global _next_number
    _declared[domain.name] = domain
    if domain.number >= _FIRST_OWN:
        _next_number = domain.number + 1
        grouping.DOMAIN_NAMES[domain.number] = domain.name


def remove(name: str) -> Domain:
    """Forgets a declaration."""
    if name not in _declared:
        known = ", ".join(_declared) or "none"
        raise TmError(f"There is no domain {name} to remove: declared are {known}.")
    return _declared.pop(name)


def declared() -> List[Domain]:
    """The declared domains, in the order of their numbers."""
    return sorted(_declared.values(), key=lambda domain: domain.number)


# ---- where the functions are -------------------------------------------------


def functions_of(domain: Domain, files: List[maps.MappedFile]) -> List[patches.Function]:
    """The domain's functions in the process; every one must be there."""
    found = []
    for name, shape in domain.functions.items():
        places = [
            patches.Function(name, address, size, file, shape, domain.number)
            for file in files
            for _, address, size in find_functions(file, (name,))
        ]
        found += places or [_by_expression(name, shape, domain, files)]
    return found


def _by_expression(name: str, shape: Shape, domain: Domain, files) -> patches.Function:
    """A function that the debugger knows: a C++ name, a static one of a file, an address."""
    expression = name[1:] if name.startswith("*") else f"&{name}"
    if name.startswith("0x"):
        expression = name
    try:
        address = int(gdb.parse_and_eval(f"(unsigned long) ({expression})"))
    except gdb.error as error:
        raise TmError(f"No function {name} in the program: {error}") from error
    for file in files:
        if file.start <= address < file.end:
            block = gdb.block_for_pc(address)
            while block is not None and block.function is None:
                block = block.superblock
            size = block.end - address if block is not None and block.start == address else 0
            return patches.Function(name, address, size, file, shape, domain.number)
    raise TmError(f"{name} is at {address:#x}, which is in no object of the process.")


def all_functions(files: List[maps.MappedFile]) -> List[patches.Function]:
    """The allocators tm knows and those of the declared domains, one per address.

    A declared domain that the program does not have is passed over: the next
    program may have it.
    """
    functions = {function.address: function for function in patches.allocator_functions(files)}
    for domain in declared():
        try:
            own = functions_of(domain, files)
        except TmError as error:
            gdb.write(f"warning: domain {domain.name} is not traced: {error}\n", gdb.STDERR)
            continue
        functions.update((function.address, function) for function in own)
    return [functions[address] for address in sorted(functions)]


def functions_in(files: List[maps.MappedFile]) -> List[patches.Function]:
    """The same for objects that have just been loaded: what they define, and no more."""
    functions = {function.address: function for function in patches.allocator_functions(files)}
    for domain in declared():
        for file in files:
            for name, address, size in find_functions(file, domain.functions):
                shape = domain.functions[name]
                functions[address] = patches.Function(
                    name, address, size, file, shape, domain.number
                )
    return [functions[address] for address in sorted(functions)]
