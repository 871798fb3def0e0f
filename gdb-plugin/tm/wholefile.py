"""Files that are written whole or not at all.

May use the standard library.  Must not import gdb, and must never leave a half
of a file under the name that was asked for.
"""

import os
import tempfile


def write_whole(filename, contents):
    """Put bytes under a name: afterwards it holds all of them, or what it held before."""
    filename = os.fspath(filename)
    folder, name = os.path.split(os.path.abspath(filename))
    handle, temporary = tempfile.mkstemp(prefix=".%s." % name[:100], dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(contents)
            file.flush()
            umask = os.umask(0o077)
            os.umask(umask)
            os.fchmod(file.fileno(), 0o666 & ~umask)
            os.fsync(file.fileno())
        os.replace(temporary, filename)
        temporary = None
    finally:
        if temporary is not None:
            os.unlink(temporary)
    folder_handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder_handle)
    finally:
        os.close(folder_handle)
