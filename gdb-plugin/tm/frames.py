"""Addresses to frames: the bridge between the extension's symbolizer and what
the debugger is told about files.

May use: gdb (parameters, symbol files), _tm, tm.inferior to read, tm.model.
Must never change the inferior.
"""

import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import gdb

import _tm
from tm import inferior, mapped_symbols, progress
from tm.errors import TmError
from tm.model import Block, Frame, Traceback

MAX_MODULES = 65536  # more than any process has: a larger count is damage
MAX_NAMES = 64 << 20
MAX_VDSO = 1 << 20
VDSO = "[vdso]"
DELETED = " (deleted)"

AT_ONCE = 64  # addresses looked up between two signs of progress

Address = Tuple[int, bool]  # an address and whether it is exact (not a return address)


class Module(NamedTuple):
    """A mapped object, as the symbolizer wants it."""
    path: str
    start: int
    end: int
    bias: int
    build_id: bytes
    file: str  # where it is opened
    other_file: Optional[str]  # where else, when that is another one by now
    image: bytes  # what it consists of, when it has no file


COMPLAINTS = {
    "changed": "%s is not the file any more that the process has mapped: names in it are missing. "
               "Put that file back, or its debug file into the debug-file-directory.",
    "damaged": "The debug information of %s is damaged: some names and lines are missing.",
}


# ---- modules -----------------------------------------------------------------

def _decode_modules(table: bytes, count: int, names: bytes) -> List[Module]:
    size = _tm.layout["sizeof"]["tm_module"]
    mapped = inferior.mapped_files()
    modules = []
    for index in range(count):
        entry = _tm.decode("tm_module", table[index * size:(index + 1) * size])
        path = os.fsdecode(names[entry["path"]:].split(b"\0", 1)[0])
        if path:
            build_id = bytes(entry["build_id"][:entry["build_id_size"]])
            modules.append(Module(path, entry["start"], entry["end"], entry["bias"], build_id,
                                  *_files_of(path, build_id, mapped),
                                  _image_of(path, entry, mapped)))
    return modules


def modules_of_image(image: bytes) -> List[Module]:
    """The modules of a snapshot image."""
    sizes = _tm.layout["sizeof"]
    header = _tm.decode("tm_image", bytes(image[:sizes["tm_image"]]))
    start, count = header["modules"], header["module_count"]
    end = start + count * sizes["tm_module"]
    if count > MAX_MODULES or end > len(image):
        raise TmError("The snapshot is damaged: its list of modules lies outside it.")
    names = image[header["names"]:header["names"] + header["names_size"]]
    return _decode_modules(bytes(image[start:end]), count, bytes(names))


def modules_of_process(address: int) -> List[Module]:
    """The modules of the struct tm_module_list at `address` in the process."""
    sizes = _tm.layout["sizeof"]
    if not address:
        return []
    table_at = address + sizes["tm_module_list"]
    head = _tm.decode("tm_module_list", inferior.read(address, sizes["tm_module_list"]))
    count, names_size = head["count"], head["names_size"]
    if count > MAX_MODULES or names_size > MAX_NAMES:
        raise TmError("The list of modules in the process is damaged.")
    table_size = count * sizes["tm_module"]
    table = inferior.read(table_at, table_size) if count else b""
    names = inferior.read(table_at + table_size, names_size) if names_size else b""
    return _decode_modules(table, count, names)


def file_of(path: str) -> str:
    """Where an object of the process can be opened on this machine."""
    root = gdb.parameter("sysroot") or ""
    if root.startswith("target:"):
        root = root[len("target:"):]
    if root.strip("/") and os.path.exists(root.rstrip("/") + path):
        return root.rstrip("/") + path
    if gdb.selected_inferior().pid == 0 or inferior.is_core():
        return path
    seen = inferior.object_file(path)
    # The plain name outlives the process; another one is needed only where
    # the process sees another file under it, in a container.
    if seen != path and os.path.exists(path) and os.path.samefile(seen, path):
        return path
    return seen


def _files_of(path: str, build_id: bytes, mapped: Dict[str, str]) -> Tuple[str, Optional[str]]:
    """Where an object can be opened, and where else if that is not what was mapped.

    The kernel adds " (deleted)" to a name that leads to another file by now, or to
    none (proc(5)); what has the name again is right when it has the build-id.
    """
    if path == VDSO:
        return path, None
    if path.endswith(DELETED) and build_id:
        return file_of(path[:-len(DELETED)]), mapped.get(path)
    return file_of(path), mapped.get(path) or mapped.get(path + DELETED)


def _image_of(path: str, entry: Dict[str, Any], mapped: Dict[str, str]) -> bytes:
    """Out of the process: the object that the kernel made, the symbols of one without a file."""
    start, end = entry["start"], entry["end"]
    name = path if path.endswith(DELETED) else path + DELETED
    try:
        if path == VDSO and end - start <= MAX_VDSO:
            return inferior.read(start, end - start)
        if name in mapped and not os.access(mapped[name], os.R_OK):
            return mapped_symbols.read_object(inferior.read, start, entry["bias"])
    except (gdb.error, ValueError, OverflowError):  # not in this core; it runs; damaged
        pass
    return b""


# ---- the symbolizer ----------------------------------------------------------

WORK = {"reading": "Reading symbols of %s", "fetching": "Fetching debug info of %s"}


def _tell(work: str, path: str, done: int, total: int) -> None:
    """What the symbolizer tells of itself, for whoever shows progress."""
    progress.tell(WORK[work] % os.path.basename(path), done, total or None, is_bytes=True)


class Resolver:
    """Looks addresses up in one set of modules; remembers what it has found."""

    def __init__(self) -> None:
        self._symbolizer: Any = None
        self._modules: set = set()
        self._options: Dict[str, Any] = {}
        self._known: Dict[int, Optional[List[Frame]]] = {}

    def use(self, modules: Sequence[Module]) -> None:
        """Look up in these modules from now on.

        Objects that were only added are added; anything else begins anew,
        because an address may then mean something different.
        """
        wanted = set(modules)
        options = {"debug_directories": debug_directories(), "debuginfod": uses_debuginfod(),
                   "tell": _tell}
        if (self._symbolizer is None or options != self._options
                or not self._modules <= wanted):
            self._symbolizer = _tm.Symbolizer(**options)
            self._options, self._modules = options, set()
        if wanted != self._modules:
            self._known.clear()
        for module in sorted(wanted - self._modules, key=lambda module: module.start):
            self._symbolizer.add_module(*module)
        self._modules = wanted

    def resolve(self, addresses: Sequence[Address]) -> List[Optional[List[Frame]]]:
        """Per address its frames, innermost first: inlined calls, then the function.

        None for a stub that leads from one function to another.
        """
        lookups = [address if exact else max(address - 1, 0) for address, exact in addresses]
        new = sorted(set(lookups) - self._known.keys())
        with progress.step("Finding names", len(new)) as at:
            for start in range(0, len(new), AT_ONCE):
                at(start)
                part = new[start:start + AT_ONCE]
                for lookup, symbols in zip(part, self._symbolizer.resolve(part)):
                    self._known[lookup] = [Frame.from_symbol(lookup, symbol)
                                           for symbol in symbols] or None
        for path, complaint in self._symbolizer.complaints():
            text = COMPLAINTS[complaint] % path
            if text not in _told:
                _told.add(text)
                _to_tell.append(text)
        return [self._known[lookup] for lookup in lookups]


_resolver = Resolver()
_told: Set[str] = set()  # complaints that this session has heard, or will
_to_tell: List[str] = []


def complaints() -> List[str]:
    """What stood in the way of names since this was asked last: lines for the user."""
    lines = _to_tell[:]
    _to_tell.clear()
    return lines


def resolver(image: bytes) -> Callable[[Sequence[Address]], List[Optional[List[Frame]]]]:
    """What model.Snapshot.from_image() takes as `resolve`, for this image."""
    _resolver.use(modules_of_image(image))
    return _resolver.resolve


def traceback_maker(header: dict) -> Callable[[Sequence[int], bool], Traceback]:
    """Makes tracebacks of what _tm.find_block() gives; `header` is the helper's.

    The modules are read once: it serves until the process runs again.
    """
    exact, mask = _tm.layout["NODE_EXACT"], _tm.layout["NODE_ADDRESS_MASK"]
    _resolver.use(modules_of_process(header["modules"]))

    def make(addresses: Sequence[int], truncated: bool) -> Traceback:
        found = _resolver.resolve([(address & mask, bool(address & exact))
                                   for address in addresses])
        frames = [frame for per_address in found for frame in per_address or ()]
        frames = frames or [Frame.unknown()]
        return Traceback(frames, None if truncated else len(frames))

    return make


def block(start: int, size: int, domain: int, addresses: Sequence[int], truncated: bool,
          header: dict) -> Block:
    """What _tm.find_block() found, with names; `header` is the helper's."""
    return Block(start, size, domain, traceback_maker(header)(addresses, truncated))


def uses_debuginfod() -> bool:
    """Whether gdb may ask the servers of `show debuginfod urls`; not while it would ask first."""
    try:
        return gdb.parameter("debuginfod enabled") == "on" \
            and bool(gdb.parameter("debuginfod urls"))
    except RuntimeError:  # a gdb that does not know debuginfod
        return False


def debug_directories() -> List[str]:
    """`show debug-file-directory`, as a list."""
    text = gdb.parameter("debug-file-directory") or ""
    return [directory for directory in text.split(os.pathsep) if directory]


# ---- the helper's own symbols --------------------------------------------------

_helper_symbols: Dict[int, int] = {}  # inferior's number -> where gdb thinks the helper is


def add_helper_symbols(address: int) -> None:
    """Tells gdb what the helper's code is, so that its backtraces pass through it."""
    number = gdb.selected_inferior().num
    if _helper_symbols.get(number) == address:
        return
    forget_helper_symbols(number)
    path = os.path.join(os.path.dirname(os.path.abspath(_tm.__file__)), "tm-helper.so")
    gdb.execute('add-symbol-file "%s" -o %#x' % (path.replace('"', '\\"'), address),
                from_tty=False, to_string=True)
    _helper_symbols[number] = address


def forget_helper_symbols(number: int) -> None:
    """The helper of this inferior is gone, and its symbols go with it."""
    address = _helper_symbols.pop(number, None)
    if address is None:
        return
    try:
        gdb.execute("remove-symbol-file -a %#x" % (address + helper_text_offset()),
                    from_tty=False, to_string=True)
    except gdb.error:
        pass  # the user took it out before us


def helper_text_offset() -> int:
    """Where the helper's code begins in it; gdb finds a symbol file by such an address."""
    path = os.path.join(os.path.dirname(os.path.abspath(_tm.__file__)), "tm-helper.so")
    return next((vaddr for kind, vaddr, _offset, _filesz, _memsz, flags
                 in _tm.elf_segments(path)["segments"] if kind == 1 and flags & 1), 0)


_gone: Set[int] = set()  # numbers of inferiors whose process is no more


def _on_exited(event: Any) -> None:
    """The process has gone, or was let go: by gdb itself, in the middle of following a fork.

    Taking symbols out there would make gdb lose the child, so it waits for a prompt.
    """
    if event.inferior.num in _helper_symbols:
        _gone.add(event.inferior.num)


def _on_prompt() -> None:
    """gdb takes symbols out of the selected inferior alone; for another one they wait."""
    selected = gdb.selected_inferior()
    if selected.num in _gone:
        _gone.discard(selected.num)
        if selected.pid == 0:
            forget_helper_symbols(selected.num)


def register(helper_symbols: Dict[int, int]) -> None:
    """Listen for the end of processes; helper_symbols is what unregister() gave."""
    _helper_symbols.update(helper_symbols)
    gdb.events.exited.connect(_on_exited)
    gdb.events.before_prompt.connect(_on_prompt)


def unregister() -> Dict[int, int]:
    """Let go of gdb's events, before the plugin is loaded anew."""
    gdb.events.exited.disconnect(_on_exited)
    gdb.events.before_prompt.disconnect(_on_prompt)
    return dict(_helper_symbols)
