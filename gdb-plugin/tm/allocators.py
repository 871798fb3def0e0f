"""The allocator functions tm knows by name, and how each hands over its block.

Data alone: no gdb, no process.  Shapes are those of tm_layout.h.
"""

import os
from typing import Dict, NamedTuple, Optional


class Shape(NamedTuple):
    """How a function hands over its block: TM_SHAPE_*, and argument positions from 0."""

    shape: str
    size: Optional[int] = None
    count: Optional[int] = None
    block: Optional[int] = None


_SIZED = Shape("SHAPE_ALLOC", size=0)
_COUNTED = Shape("SHAPE_ALLOC", size=1, count=0)
_ALIGNED = Shape("SHAPE_ALLOC", size=1)
_REALLOC = Shape("SHAPE_REALLOC", size=1, block=0)
_REALLOC_COUNTED = Shape("SHAPE_REALLOC", size=2, count=1, block=0)
_STORE = Shape("SHAPE_STORE", size=2, block=0)
_FREE = Shape("SHAPE_FREE", block=0)
_RESIZE = Shape("SHAPE_RESIZE", size=1, block=0)

FUNCTIONS: Dict[str, Shape] = {
    # C, POSIX, GNU and BSD (malloc(3), posix_memalign(3)); C23 7.24.3.
    "malloc": _SIZED,
    "calloc": _COUNTED,
    "realloc": _REALLOC,
    "reallocarray": _REALLOC_COUNTED,
    "aligned_alloc": _ALIGNED,
    "memalign": _ALIGNED,
    "posix_memalign": _STORE,
    "valloc": _SIZED,
    "pvalloc": _SIZED,
    "free": _FREE,
    "cfree": _FREE,
    "free_sized": _FREE,
    "free_aligned_sized": _FREE,
    # jemalloc(3), the non-standard interface.
    "mallocx": _SIZED,
    "rallocx": _REALLOC,
    "xallocx": _RESIZE,
    "dallocx": _FREE,
    "sdallocx": _FREE,
}

# C++: operator new and delete in every form (Itanium C++ ABI, 5.1.5 mangled names; C++17 aligned).
for _new in ("_Znwm", "_Znam"):
    for _suffix in ("", "RKSt9nothrow_t", "St11align_val_t", "St11align_val_tRKSt9nothrow_t"):
        FUNCTIONS[_new + _suffix] = _SIZED
for _delete in ("_ZdlPv", "_ZdaPv"):
    for _suffix in (
        "",
        "m",
        "RKSt9nothrow_t",
        "St11align_val_t",
        "mSt11align_val_t",
        "St11align_val_tRKSt9nothrow_t",
    ):
        FUNCTIONS[_delete + _suffix] = _FREE

# Those that report failure by throwing std::bad_alloc.
THROWING = ("_Znwm", "_Znam", "_ZnwmSt11align_val_t", "_ZnamSt11align_val_t")

# Functions known to call no other of these, by how the name of their library begins.  glibc's
# realloc and memalign may call its malloc.
_LEAVES = {
    "libc.so.6": ("malloc", "calloc", "free"),
    "libjemalloc.so": ("malloc", "calloc", "realloc", "free"),
}


def is_leaf(name: str, path: str) -> bool:
    """Whether the function of the library is known to call no other allocator function."""
    return any(os.path.basename(path).startswith(library) and name in names
               for library, names in _LEAVES.items())


# Libraries whose own calls of these are known to take no more for granted than the calling
# convention: they go from one source file to another, or through the PLT.
_CONVENTIONAL = ("libc.so", "libc-2.", "libc.musl", "ld-musl", "libstdc++.so", "libc++.so",
                 "libc++abi.so", "libjemalloc.so", "libtcmalloc", "libmimalloc.so")


def is_conventional(path: str) -> bool:
    """Whether no caller of an allocator function of this object relies on registers kept."""
    return os.path.basename(path).startswith(_CONVENTIONAL)


# Allocators that are linked in under a prefix of their own.
for _prefix in ("je_", "tc_", "mi_", "__libc_"):
    for _name in (
        "malloc",
        "calloc",
        "realloc",
        "reallocarray",
        "aligned_alloc",
        "memalign",
        "posix_memalign",
        "valloc",
        "pvalloc",
        "free",
        "mallocx",
        "rallocx",
        "xallocx",
        "dallocx",
        "sdallocx",
    ):
        FUNCTIONS.setdefault(_prefix + _name, FUNCTIONS[_name])

# mimalloc puts the size before the alignment (mimalloc.h).
FUNCTIONS["mi_malloc_aligned"] = _SIZED
FUNCTIONS["mi_realloc_aligned"] = _REALLOC
FUNCTIONS["mi_calloc_aligned"] = _COUNTED
FUNCTIONS["mi_zalloc"] = _SIZED
FUNCTIONS["mi_new"] = _SIZED
FUNCTIONS["mi_new_nothrow"] = _SIZED
FUNCTIONS["mi_free_size"] = _FREE
FUNCTIONS["mi_free_size_aligned"] = _FREE
FUNCTIONS["mi_free_aligned"] = _FREE
