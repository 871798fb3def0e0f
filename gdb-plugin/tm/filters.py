"""Filter and DomainFilter, with tracemalloc's rules.

A filter answers for one raw trace (`_match`), and, so that `_tm` can do the
work, for each of a list of frames (`compiled`).  May use the standard library
and _tm.  Must not import gdb.
"""

import fnmatch
import os.path

import _tm

_NO_DOMAIN = 0xffffffff  # a domain a filter asks for that no trace can have


def _normalize_filename(filename):
    filename = os.path.normcase(filename)
    if filename.endswith(".pyc"):
        filename = filename[:-1]
    return filename


class BaseFilter:
    """Decides which traces stay in a snapshot."""

    def __init__(self, inclusive):
        self.inclusive = inclusive

    def _match(self, trace):
        """trace is (domain, size, ((filename, lineno), … most recent first), total_nframe)."""
        raise NotImplementedError


class Filter(BaseFilter):
    """By file name pattern, line and domain."""

    def __init__(self, inclusive, filename_pattern, lineno=None, all_frames=False, domain=None):
        super().__init__(inclusive)
        self._filename_pattern = _normalize_filename(filename_pattern)
        self.lineno = lineno
        self.all_frames = all_frames
        self.domain = domain

    @property
    def filename_pattern(self):
        return self._filename_pattern

    def _match_frame_impl(self, filename, lineno):
        if not fnmatch.fnmatch(_normalize_filename(filename), self._filename_pattern):
            return False
        return self.lineno is None or lineno == self.lineno

    def _match_frame(self, filename, lineno):
        return self._match_frame_impl(filename, lineno) ^ (not self.inclusive)

    def _match_traceback(self, traceback):
        if not self.all_frames:
            return self._match_frame(*traceback[0])
        if any(self._match_frame_impl(filename, lineno) for filename, lineno in traceback):
            return self.inclusive
        return not self.inclusive

    def _match(self, trace):
        domain, _size, traceback, _total_nframe = trace
        matches = self._match_traceback(traceback)
        if self.domain is None:
            return matches
        if self.inclusive:
            return matches and domain == self.domain
        return matches or domain != self.domain

    def compiled(self, frames):
        """(flags, domain, match by frame) for _tm.filter."""
        files = {}
        match = bytearray(len(frames))
        for number, frame in enumerate(frames):
            filename, lineno = frame._frame
            if filename not in files:
                files[filename] = fnmatch.fnmatch(_normalize_filename(filename),
                                                  self._filename_pattern)
            match[number] = files[filename] and (self.lineno is None or lineno == self.lineno)
        flags = _tm.FILTER_INCLUSIVE if self.inclusive else 0
        if self.all_frames:
            flags |= _tm.FILTER_ALL_FRAMES
        if self.domain is not None:
            flags |= _tm.FILTER_HAS_DOMAIN
        return flags, _domain_number(self.domain), bytes(match)


class DomainFilter(BaseFilter):
    """By domain."""

    def __init__(self, inclusive, domain):
        super().__init__(inclusive)
        self._domain = domain

    @property
    def domain(self):
        return self._domain

    def _match(self, trace):
        return (trace[0] == self.domain) ^ (not self.inclusive)

    def compiled(self, _frames):
        """(flags, domain, match by frame) for _tm.filter."""
        flags = _tm.FILTER_DOMAIN_ONLY | (_tm.FILTER_INCLUSIVE if self.inclusive else 0)
        return flags, _domain_number(self.domain), b""


def _domain_number(domain):
    if isinstance(domain, int) and 0 <= domain < _NO_DOMAIN:
        return int(domain)
    return _NO_DOMAIN
