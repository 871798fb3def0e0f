"""Dump files: a snapshot with all its names, in one checked and compressed file.

A file is data, never code.  What is read is suspect to the last byte: it is
hashed before it is looked at, sizes are checked before memory is taken for
them, and every number before it is an index.  May use the standard library and
_tm.  Must not import gdb.
"""

import hashlib
import json
import os
import stat
import struct

import _tm

from tm import progress
from tm.errors import TmError
from tm.model import Snapshot
from tm.sampling import LARGEST_MIN_SIZE, LARGEST_PERIOD, SMALLEST_PERIOD
from tm.tracebacks import Frame, source_line
from tm.version import VERSION
from tm.wholefile import write_whole

MAGIC = b"tmdump01"
FORMAT = 1
FORMAT_SAMPLED = 2  # its counts are those of a sample, which a reader of format 1 would not know
RAW, ZSTD = 0, 1
MAX_EXPANSION = 256  # how many times larger than its file a payload may be …
FREE_EXPANSION = 1 << 20  # … beyond so many bytes
MAX_DEPTH = 1 << 16  # frames in a traceback

# magic, format, size of this header, bytes of the payload, bytes of the body,
# method, reserved, plugin's version, SHA-256 of the file with this field zero
_HEADER = struct.Struct("<8sIIQQII32s32s")
_DIGEST_AT = _HEADER.size - 32
_SECTIONS = struct.Struct("<5Q")  # bytes of facts, strings, frames, rows, nodes
# lineno, address, then numbers of strings + 1 (0: None): filename, function, module, source
# line; flags
_FRAME = struct.Struct("<qQIIIII")
_INLINED, _HAS_LINE, _HAS_ADDRESS = 1, 2, 4

_PLAIN = (type(None), bool, int, float, str)


# ---- writing ------------------------------------------------------------------

class _Strings:
    def __init__(self):
        self._numbers = {None: 0}

    def number(self, text):
        return self._numbers.setdefault(text, len(self._numbers))

    def packed(self):
        texts = [text for text in self._numbers if text is not None]
        return json.dumps(texts, ensure_ascii=True).encode("ascii")


def _packed_frames(frames, strings, find):
    packed = []
    for frame in progress.each("Writing frames", frames, len(frames)):
        flags = (_INLINED if frame.inlined else 0) | (_HAS_LINE if frame.has_line else 0)
        if frame.address is not None:
            flags |= _HAS_ADDRESS
        try:
            packed.append(_FRAME.pack(frame.lineno, frame.address or 0,
                                      strings.number(frame.filename),
                                      strings.number(frame.function),
                                      strings.number(frame.module),
                                      strings.number(frame.source_line(find) or None), flags))
        except struct.error:
            raise TmError("The snapshot cannot be dumped: %r has too large a number."
                          % (frame,)) from None
    return b"".join(packed)


def _is_plain(value, depth=0):
    if isinstance(value, _PLAIN):
        return not isinstance(value, int) or abs(value) < 1 << 1024
    if depth > 50:
        return False
    if isinstance(value, (list, tuple)):
        return all(_is_plain(one, depth + 1) for one in value)
    return (isinstance(value, dict) and all(isinstance(key, str) for key in value)
            and all(_is_plain(one, depth + 1) for one in value.values()))


def _facts(snapshot):
    """Everything but the arrays: what the snapshot says of itself, what a script set on it."""
    return {name: value for name, value in vars(snapshot).items()
            if not name.startswith("_") and _is_plain(value)}


def _payload(snapshot, find):
    strings = _Strings()
    frames = _packed_frames(snapshot._frames, strings, find)
    sections = [json.dumps(_facts(snapshot)).encode("ascii"), strings.packed(), frames,
                snapshot._rows, snapshot._nodes]
    return _SECTIONS.pack(*(len(section) for section in sections)) + b"".join(sections)


def _file_bytes(snapshot, find):
    payload = _payload(snapshot, find)
    method, body = ZSTD, _tm.compress(payload)
    if len(payload) > MAX_EXPANSION * len(body) + FREE_EXPANSION:
        method, body = RAW, payload
    version = FORMAT_SAMPLED if snapshot.sample_period else FORMAT
    fields = (MAGIC, version, _HEADER.size, len(payload), len(body), method, 0,
              VERSION.encode("ascii"))
    digest = hashlib.sha256(_HEADER.pack(*fields, b"") + body).digest()
    return _HEADER.pack(*fields, digest) + body


def dump(snapshot, filename, find=source_line):
    """Write a snapshot to a file: under its name it is whole or not there.

    find, a function (filename, lineno) -> line, gives the source lines: they go
    into the file, for those who have no sources.
    """
    write_whole(filename, _file_bytes(snapshot, find))


# ---- reading --------------------------------------------------------------------

class _Damaged(Exception):
    """What is wrong with a file, in the words that follow its name."""


def _need(condition, text):
    if not condition:
        raise _Damaged(text)


def _read_file(filename):
    """The header's fields and the body, once size and hash are right."""
    with open(filename, "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        _need(stat.S_ISREG(status.st_mode), "is not a regular file")
        header = file.read(_HEADER.size)
        _need(len(header) == _HEADER.size and header[:8] == MAGIC, "is not a snapshot of tm")
        fields = _HEADER.unpack(header)
        _magic, version, header_size, payload_size, body_size, method, _reserved, *_ = fields
        if version not in (FORMAT, FORMAT_SAMPLED) or header_size != _HEADER.size:
            writer = fields[7].rstrip(b"\0").decode("ascii", "replace")
            raise _Damaged("has format %d, written by tm %s; this is tm %s, which reads format %d"
                           % (version, writer if writer.isprintable() else "?", VERSION,
                              FORMAT_SAMPLED))
        _need(status.st_size == _HEADER.size + body_size,
              "is damaged: it should have %d bytes, not %d"
              % (_HEADER.size + body_size, status.st_size))
        body = file.read(body_size)
    _need(len(body) == body_size, "is damaged: it ends too early")
    digest = hashlib.sha256(header[:_DIGEST_AT] + bytes(32))
    digest.update(body)
    _need(digest.digest() == fields[8], "is damaged: its checksum is wrong")
    return payload_size, method, body


def _unpacked(payload_size, method, body):
    if method == RAW:
        _need(payload_size == len(body), "is damaged: its sizes do not agree")
        return body
    _need(method == ZSTD, "is compressed in a way that this plugin does not know")
    _need(payload_size <= MAX_EXPANSION * len(body) + FREE_EXPANSION,
          "is damaged: it claims to hold %d bytes" % payload_size)
    return _tm.decompress(body, payload_size)


def _sections(payload):
    _need(len(payload) >= _SECTIONS.size, "is damaged: it has no sections")
    sizes = _SECTIONS.unpack_from(payload)
    _need(sum(sizes) == len(payload) - _SECTIONS.size, "is damaged: its sections do not fit")
    at = _SECTIONS.size
    for size in sizes:
        yield payload[at:at + size]
        at += size


def _json(section, kind, what):
    try:
        value = json.loads(section.decode("ascii"))
    except (ValueError, RecursionError):
        value = None
    _need(isinstance(value, kind), "is damaged: its %s cannot be read" % what)
    return value


def _frames(section, strings):
    _need(len(section) % _FRAME.size == 0, "is damaged: its frames are not whole")
    _need(all(isinstance(text, str) for text in strings), "is damaged: its names are no text")
    names = [None] + strings
    frames = []
    packed = progress.each("Reading frames", _FRAME.iter_unpack(section),
                           len(section) // _FRAME.size)
    for lineno, address, filename, function, module, line, flags in packed:
        _need(0 < filename and max(filename, function, module, line) < len(names),
              "is damaged: frame %d makes no sense" % len(frames))
        frames.append(Frame(names[filename], lineno, names[function], names[module],
                            address if flags & _HAS_ADDRESS else None,
                            bool(flags & _INLINED), bool(flags & _HAS_LINE)))
        frames[-1].line = names[line]
    return frames


_END_OF_TIME = 253402300800  # the year 10000
_NUMBERS = {"traceback_limit": 1 << 32, "dropped": 1 << 64, "untracked_frees": 1 << 64}
_OPTIONAL_NUMBERS = {"pid": 1 << 32, "time": _END_OF_TIME, "start_time": _END_OF_TIME}


def _check_facts(facts):
    for name, end in list(_NUMBERS.items()) + list(_OPTIONAL_NUMBERS.items()):
        value = facts.get(name)
        if value is None and name in _OPTIONAL_NUMBERS:
            continue
        _need(isinstance(value, (int, float)) and 0 <= value < end,
              "is damaged: its %s cannot be" % name)
    for name in ("name", "origin"):
        _need(isinstance(facts.get(name), (str, type(None))),
              "is damaged: its %s is no text" % name)
    _need(isinstance(facts.get("modules"), list), "is damaged: its modules are no list")
    for name, least, most in (("sample_period", SMALLEST_PERIOD, LARGEST_PERIOD),
                              ("min_size", 0, LARGEST_MIN_SIZE)):
        value = facts.setdefault(name, 0)  # absent in files of older versions
        _need(type(value) is int and (value == 0 or least <= value <= most),
              "is damaged: its %s cannot be" % name)


def _snapshot(payload):
    facts, strings, frames, rows, nodes = _sections(payload)
    frames = _frames(frames, _json(strings, list, "names"))
    facts = _json(facts, dict, "facts")
    _check_facts(facts)
    depth = _tm.measure(rows, nodes, len(frames), facts["sample_period"])["depth"]
    _need(depth <= MAX_DEPTH, "is damaged: a traceback has %d frames" % depth)
    snapshot = Snapshot._from_arrays(rows, nodes, frames, facts.pop("traceback_limit"))
    for name, value in facts.items():
        if not name.startswith("_") and not hasattr(Snapshot, name):
            setattr(snapshot, name, value)
    return snapshot


def load(filename):
    """Read a snapshot back; what cannot be one is a TmError of one line."""
    try:
        snapshot = _snapshot(_unpacked(*_read_file(filename)))
    except (_Damaged, _tm.Error) as error:
        text = str(error)
        if isinstance(error, _tm.Error):
            text = "is damaged: " + text.replace("the snapshot is damaged: ", "")
        raise TmError("%s %s." % (os.fsdecode(filename), text)) from None
    snapshot.origin = os.fsdecode(filename)
    return snapshot
