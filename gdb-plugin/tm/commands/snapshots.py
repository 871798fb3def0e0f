"""The commands that take, list and forget snapshots, and keep them in files.

May use: tm.process to take one, tm.snapshots to keep it.  Must never look into
one further than its totals.
"""

import os
import time
from typing import Any, Dict, List

from tm import dumpfile, process, render, sampling
from tm.commands import sources
from tm.commands.framework import TmCommand, command
from tm.commands.output import table, write, write_json, write_losses
from tm.errors import TmError
from tm.model import Snapshot, _format_size
from tm.options import Argument, Declaration, Parsed
from tm.snapshots import registry

NAME = Argument("NAME", "word", "Name of the new snapshot.  Default: the next number.",
                optional=True)


@command
class TakeSnapshot(TmCommand):
    declaration = Declaration(
        name="snapshot",
        summary="Take a snapshot of the traced blocks.",
        arguments=(NAME,),
        details="Reports and differences can be made of it at any later time, also when the\n"
                "process is gone.",
        examples=("tm snapshot", "tm snapshot before"),
        json=True, needs_tracing=True, reads_core=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        if values.name is not None:
            registry.check_name(values.name)
        snapshot = process.take_snapshot()
        registry.add(snapshot, values.name)
        if values.json:
            write_json(render.snapshot_document(snapshot))
            return
        write(render.render_snapshot(snapshot))
        write_losses(snapshot.dropped)


@command
class ListSnapshots(TmCommand):
    declaration = Declaration(
        name="snapshots",
        summary="List the snapshots.",
        json=True)

    HEADS = ("Name", "When", "Blocks", "Size", "Tracebacks", "Limit", "Origin")

    def run(self, values: Parsed, from_tty: bool) -> None:
        snapshots = registry.all()
        if values.json:
            write_json({"command": "snapshots", "snapshots": [
                self.document(snapshot) for snapshot in snapshots]})
        elif not snapshots:
            write("No snapshots.")
        else:
            write(table(self.HEADS, [self.row(snapshot) for snapshot in snapshots],
                        right=(2, 3, 4, 5)))

    @staticmethod
    def document(snapshot: Any) -> Dict[str, Any]:
        document = dict(render.snapshot_document(snapshot), time=snapshot.time,
                        origin=snapshot.origin)
        del document["command"]
        return document

    @staticmethod
    def row(snapshot: Any) -> List[str]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.time or 0))
        return [snapshot.name, when, str(snapshot.blocks), _format_size(snapshot.size, False),
                str(snapshot.tracebacks), str(snapshot.traceback_limit),
                (snapshot.origin or "") + sampling.of(snapshot).aside]


@command
class DeleteSnapshots(TmCommand):
    declaration = Declaration(
        name="delete",
        summary="Forget snapshots.",
        arguments=(Argument("NAME", "snapshot", "A snapshot to forget.", repeated=True),),
        examples=("tm delete 1 2",))

    def run(self, values: Parsed, from_tty: bool) -> None:
        registry.delete(values.name)


def path_of(text: str) -> str:
    """A file's name as the user means it."""
    return os.path.abspath(os.path.expanduser(text))


FILE = Argument("FILE", "file", "Name of the file.")


@command
class Dump(TmCommand):
    declaration = Declaration(
        name="dump",
        summary="Write a snapshot to a file.",
        arguments=(FILE, Argument("NAME", "snapshot", "The snapshot.  Default: the last one.",
                                  optional=True)),
        details="The file holds all names and source lines, so that it reads the same on another\n"
                "machine.  It is written whole or not at all.",
        examples=("tm dump before.tm", "tm dump ~/leak.tm 3"))

    def run(self, values: Parsed, from_tty: bool) -> None:
        snapshot = registry.last() if values.name is None else registry.get(values.name)
        if snapshot is None:
            raise TmError('There is no snapshot to write: "tm snapshot" takes one.')
        path = path_of(values.file)
        try:
            dumpfile.dump(snapshot, path, sources.Finder().line)
            size = os.path.getsize(path)
        except OSError as error:
            raise TmError("Cannot write %s: %s." % (path, error.strerror)) from None
        write("Snapshot %s written to %s (%s)." % (snapshot.name, path,
                                                   _format_size(size, False)))


@command
class Load(TmCommand):
    declaration = Declaration(
        name="load",
        summary="Read a snapshot back from a file.",
        arguments=(FILE, NAME),
        details="No process is needed to look at it.",
        examples=("tm load before.tm", "tm load before.tm before"),
        json=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        if values.name is not None:
            registry.check_name(values.name)
        path = path_of(values.file)
        try:
            snapshot = Snapshot.load(path)
        except OSError as error:
            raise TmError("Cannot read %s: %s." % (path, error.strerror)) from None
        registry.add(snapshot, values.name)
        if values.json:
            write_json(dict(render.snapshot_document(snapshot), command="load"))
        else:
            write(render.render_snapshot(snapshot))
