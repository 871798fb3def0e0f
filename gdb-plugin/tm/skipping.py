"""Which frames are wrappers: inlined calls, functions the user skips, allocators.

May use the standard library.  Must not import gdb or _tm.
"""

from fnmatch import fnmatchcase

# Functions that only hand blocks on: with `set tm skip-allocators on` their
# caller counts as the place of the allocation.
ALLOCATORS = (
    "malloc", "calloc", "realloc", "reallocarray", "memalign", "aligned_alloc",
    "posix_memalign", "valloc", "pvalloc", "free", "cfree", "__libc_*alloc*", "__GI___libc_*",
    "operator new", "operator new(*", "operator new[[]]*", "operator delete*",
    "std::allocator<*>::allocate*", "std::__new_allocator<*>::allocate*",
    "__gnu_cxx::new_allocator<*>::allocate*", "std::allocator_traits<*>::allocate*",
    "std::_Vector_base<*>::_M_allocate*", "std::__allocate_guarded*",
    "std::pmr::*::allocate*", "std::pmr::*::do_allocate*",
)


def skipping_flags(frames, globs=(), skip_allocators=False):
    """By frame, a byte: 1 where it never counts as the most recent."""
    patterns = tuple(globs) + (ALLOCATORS if skip_allocators else ())
    known = {None: 0}
    flags = bytearray(len(frames))
    for number, frame in enumerate(frames):
        function = frame.function
        if function not in known:
            known[function] = any(fnmatchcase(function, pattern) for pattern in patterns)
        flags[number] = known[function]
    return bytes(flags)


def folding_flags(frames):
    """By frame, a byte: 1 where it is an inlined call."""
    return bytes(1 if frame.inlined else 0 for frame in frames)
