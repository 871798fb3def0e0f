"""The command that writes a snapshot for other viewers.

May use: tm.exports for the contents, tm.wholefile (through it) for the file.
Must never leave half a file.
"""

import os

from tm import exports
from tm.commands import selection, sources
from tm.commands.framework import TmCommand, command
from tm.commands.output import plural, write, write_json
from tm.commands.reports import DOMAIN, SNAPSHOT, choose
from tm.commands.snapshots import FILE, path_of
from tm.errors import TmError
from tm.model import format_size
from tm.options import Argument, Declaration, Option, Parsed


@command
class Export(TmCommand):
    declaration = Declaration(
        name="export",
        summary="Write a snapshot for another viewer.",
        arguments=(Argument("FORMAT", "choice", "One of %s." % ", ".join(exports.FORMATS),
                            choices=exports.FORMATS), FILE, SNAPSHOT),
        options=(Option("diff", "Write the differences from snapshot OLD (with %s)."
                        % ", ".join(exports.WITH_DIFFERENCES), "snapshot", "OLD"), DOMAIN),
        details="pprof      - for \"go tool pprof\"\n"
                "collapsed  - a line for each call stack, with its bytes: flamegraph.pl, inferno\n"
                "speedscope - for https://www.speedscope.app\n"
                "dhat       - for the viewer of valgrind's DHAT, dh_view.html\n"
                "html       - a report for any browser, in one file that needs no network\n"
                "Filters and skipped functions count as in the reports.  The file is written\n"
                "whole or not at all.",
        examples=("tm export html heap.html", "tm export html growth.html now -diff 1",
                  "tm export pprof heap.pb.gz 2"),
        json=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        path = path_of(values.file)
        old = None if values.diff is None else choose(values.diff)
        snapshot = selection.apply(choose(values.snapshot), values.domain)
        if old is not None:
            old = selection.apply(old, values.domain)
        try:
            size = exports.export(snapshot, values.format, path, old, sources.Finder().line)
        except OSError as error:
            raise TmError("Cannot write %s: %s." % (path, error.strerror)) from None
        if values.json:
            write_json({"command": "export", "format": values.format, "file": os.fspath(path),
                        "file_size": size, "snapshot": snapshot.name,
                        "old": old.name if old is not None else None,
                        "total_size": snapshot.size, "total_count": snapshot.blocks})
            return
        write("Snapshot %s%s written to %s as %s (%s): %s, %s."
              % (snapshot.name, "" if old is None else " compared with %s" % old.name, path,
                 values.format, format_size(size), plural(snapshot.blocks, "block"),
                 format_size(snapshot.size)))
