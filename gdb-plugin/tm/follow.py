"""Following what a traced process loads: allocators in new objects are redirected too,
and a program that takes its place by exec may be.

gdb tells of a new object while it holds the process at the loader's notice, in
the middle of its own work: memory may be written then, functions of the
process must not be called.  What needs a call waits for the next stop.
"""

import contextlib
import os
from typing import List, Set

import gdb

from . import domains, frames, inferior, inject, maps, process, remote, settings
from .errors import TmError
from .sampling import Sampling

_waiting: List[str] = []  # paths of objects whose functions need more relay memory
_stale_symbols: Set[int] = set()  # numbers of inferiors whose helper went by exec


def _on_new_objfile(event) -> None:
    path = event.new_objfile.filename
    if path is None or not process.may_be_traced():
        return
    lost = process.lost_to_exec()
    if lost:
        _on_exec(*lost)
        return
    try:
        _redirect_object(path)
    except (TmError, gdb.MemoryError) as error:
        gdb.write(f"warning: {path} is not traced: {error}\n", gdb.STDERR)


def _on_exec(limit: int, chosen: Sampling) -> None:
    """The process became another program; its helper is gone."""
    program = gdb.current_progspace().filename or "another program"
    follows = settings.value("follow-exec")
    gdb.write(
        f"Process {gdb.selected_inferior().pid} is now {program}: its traces are gone"
        + (".\n" if follows else ", and it is not traced (see \"show tm follow-exec\").\n")
    )
    remote.forget(gdb.selected_inferior().pid)
    _stale_symbols.add(gdb.selected_inferior().num)
    if follows:
        process.start_again(limit, chosen)


def _on_exited(event) -> None:
    process.forget_process(event.inferior.num)
    remote.forget(event.inferior.pid)


def _redirect_object(path: str) -> None:
    found = process.find_helper()
    if found is None or not found.is_tracing:
        return
    mappings = inferior.memory_map()
    files = [file for file in maps.mapped_files(mappings) if _is_same_file(file.path, path)]
    functions = domains.functions_in(files)
    if not functions:
        return
    plan = inject.plan_all(functions, mappings, found)
    if len(plan.regions) > plan.first_new_region:
        _waiting.append(path)
        return
    added = inject.Injection(found, files, functions)
    with contextlib.ExitStack() as undo:
        undo.callback(added.undo_added)
        added.add()
        undo.pop_all()


def _is_same_file(mapped: str, told: str) -> bool:
    """gdb may name an object by a link, the kernel never does."""
    if mapped == told:
        return True
    try:
        return os.path.samefile(inferior.object_file(mapped), told)
    except OSError:
        return False


def _on_stop(_event) -> None:
    number = gdb.selected_inferior().num
    if number in _stale_symbols:
        _stale_symbols.discard(number)
        if not process.may_be_traced():
            frames.forget_helper_symbols(number)
    if _waiting:
        gdb.post_event(_redirect_waiting)


def _redirect_waiting() -> None:
    paths, _waiting[:] = list(_waiting), []
    if not process.is_tracing():
        return
    files = [
        file
        for file in maps.mapped_files(inferior.memory_map())
        if any(_is_same_file(file.path, path) for path in paths)
    ]
    try:
        process.redirect_more(domains.functions_in(files))
    except TmError as error:
        gdb.write(f"warning: {', '.join(paths)}: not traced: {error}\n", gdb.STDERR)


_LISTENERS = (
    (gdb.events.new_objfile, _on_new_objfile),
    (gdb.events.stop, _on_stop),
    (gdb.events.exited, _on_exited),
)


def register() -> None:
    """Listens for new objects."""
    for registry, listener in _LISTENERS:
        registry.connect(listener)


def unregister() -> None:
    """Lets go of gdb's events, before the plugin is loaded anew."""
    for registry, listener in _LISTENERS:
        registry.disconnect(listener)
