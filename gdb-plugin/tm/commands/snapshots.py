"""The commands that take, list and forget snapshots, and keep them in files.

May use: tm.process to take one, tm.snapshots to keep it.  Must never look into
one further than its totals.
"""

import os
import time
from typing import Any, Dict, List

from tm import process, render
from tm.commands.framework import TmCommand, command
from tm.commands.output import plural, table, write, write_json
from tm.errors import TmError
from tm.model import _format_size
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
        if snapshot.dropped:
            write("%s dropped for lack of memory: the snapshot is incomplete."
                  % plural(snapshot.dropped, "record was", "records were"))


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
                str(snapshot.tracebacks), str(snapshot.traceback_limit), snapshot.origin or ""]


@command
class DeleteSnapshots(TmCommand):
    declaration = Declaration(
        name="delete",
        summary="Forget snapshots.",
        arguments=(Argument("NAME", "snapshot", "A snapshot to forget.", repeated=True),),
        examples=("tm delete 1 2",))

    def run(self, values: Parsed, from_tty: bool) -> None:
        registry.delete(values.name)


def snapshot_to_keep(name: str) -> Any:
    """The named snapshot, or the last one."""
    if name is not None:
        return registry.get(name)
    last = registry.last()
    if last is None:
        raise TmError('There is no snapshot: "tm snapshot" takes one.')
    return last


def path_of(text: str) -> str:
    """A file's name as the user means it, `~` and gdb's own folder included."""
    return os.path.abspath(os.path.expanduser(text))
