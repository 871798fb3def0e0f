"""What the user sources: makes the command `tm` known to gdb.

    (gdb) source gdb-plugin/tm-gdb.py

May use: gdb and the standard library; nothing of tm before it has checked that
all of it is there.  Must never leave a half-loaded plugin: it either defines
the commands or says in one line why not.  Sourcing it again loads it anew and
keeps settings and snapshots.
"""

import os
import sys

import gdb

OLDEST_GDB = 12
HELPER = "tm-helper.so"
EXTENSION = "_tm.abi3.so"


class Refusal(Exception):
    """Why the plugin cannot be loaded; one line for the user."""


def refuse(text):
    raise Refusal("tm is not loaded: " + text)


def check_gdb():
    digits = gdb.VERSION.split(".")[0]
    if digits.isdigit() and int(digits) < OLDEST_GDB:
        refuse("it needs gdb %d or newer, this is gdb %s." % (OLDEST_GDB, gdb.VERSION))
    if sys.version_info < (3, 9):
        refuse("it needs a gdb with Python 3.9 or newer, this one has %d.%d."
               % sys.version_info[:2])


def find_build(here):
    """The folder of the built parts: beside the sources, or installed with them."""
    for folder in (here, os.path.join(os.path.dirname(here), "build")):
        if os.path.exists(os.path.join(folder, EXTENSION)):
            break
    else:
        refuse("%s is missing: run \"make\" in %s." % (EXTENSION, os.path.dirname(here)))
    if not os.path.exists(os.path.join(folder, HELPER)):
        # Snapshots can be looked at without it, so this is no refusal.
        gdb.write("warning: %s is missing in %s, \"tm start\" needs it: run \"make\" in %s.\n"
                  % (HELPER, folder, os.path.dirname(here)), gdb.STDERR)
    return folder


def import_extension(build):
    try:
        import _tm
    except ImportError as error:
        refuse("%s cannot be loaded (%s): run \"make\"."
               % (os.path.join(build, EXTENSION), str(error).split("\n")[0]))
    return _tm


def forget_previous():
    """Make a second sourcing read the sources again; returns what it must know.

    Snapshots are objects of tm.model; while there are any, what does not use
    gdb stays, so that they go on being equal to what they are compared with.
    """
    names = [name for name in sys.modules if name == "tm" or name.startswith("tm.")]
    kept = sys.modules["tm.commands"].unregister() if "tm.commands" in names else None
    snapshots = sys.modules.get("tm.snapshots")
    stay = snapshots is not None and len(snapshots.registry) > 0
    for name in names:
        if not stay or name == "tm" or name.startswith("tm.commands") \
                or hasattr(sys.modules[name], "gdb"):
            del sys.modules[name]
    return kept


def load():
    check_gdb()
    # gdb sets __file__ only for the outermost script.
    here = os.path.dirname(os.path.realpath(load.__code__.co_filename))
    build = find_build(here)
    for folder in (build, here):
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(0, folder)
    import_extension(build)
    kept = forget_previous()
    import tm.commands
    tm.commands.register(kept)


try:
    load()
except Refusal as refusal:
    # An exception that leaves a sourced file is shown with its Python traceback.
    gdb.write("%s\n" % refusal, gdb.STDERR)
