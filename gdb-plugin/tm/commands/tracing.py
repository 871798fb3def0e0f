"""The commands that begin and end tracing: start, stop, clear, reset-peak, status.

May use: tm.process for everything done to the inferior.  Must never touch it
in another way.
"""

import datetime
import time
from typing import Any, Dict, List

from tm import inferior, process, settings, unload
from tm.commands import framework
from tm.commands.framework import TmCommand, check_stopped, command
from tm.commands.output import fitted, plural, warn, write, write_json
from tm.errors import TmError
from tm.model import _format_size
from tm.options import Argument, Declaration, Option, Parsed, size_text
from tm.sampling import (EVERYTHING, LARGEST_MIN_SIZE, LARGEST_PERIOD, SMALLEST_PERIOD, Sampling,
                         sampled_text)
from tm.settings import MAX_FRAMES


@command
class Start(TmCommand):
    declaration = Declaration(
        name="start",
        summary="Start tracing the memory blocks of the process.",
        arguments=(Argument("NFRAME", "integer",
                            "How many frames a traceback keeps at most, 1 to %d.  "
                            "Default: \"show tm frames\"." % MAX_FRAMES,
                            optional=True, minimum=1, maximum=MAX_FRAMES),),
        options=(Option("sample", "Record a block with a probability that grows with its size: "
                        "one for each BYTES allocated, on average.  Reports are then estimates, "
                        "and say so.  From %s to %s."
                        % (size_text(SMALLEST_PERIOD), size_text(LARGEST_PERIOD)),
                        "size", "BYTES", minimum=SMALLEST_PERIOD, maximum=LARGEST_PERIOD,
                        default=0),
                 Option("min-size", "Do not record blocks smaller than SIZE.", "size", "SIZE",
                        minimum=0, maximum=LARGEST_MIN_SIZE, default=0)),
        details="Every block allocated from now on is recorded with the traceback that allocated\n"
                "it, unless the options say otherwise.  Without a process, the next \"run\" is\n"
                "traced from before the first constructor.",
        examples=("tm start", "tm start 25", "tm start 25 -sample 512KiB"))

    def run(self, values: Parsed, from_tty: bool) -> None:
        limit = values.nframe if values.nframe is not None else settings.value("frames")
        chosen = Sampling(values.sample, values.min_size)
        if inferior.is_core():
            raise TmError("This is a core file: \"tm start\" needs a live process.")
        if not process.has_process():
            write(process.arm(limit, chosen))
            return
        check_stopped()
        if process.is_tracing():
            raise TmError("Already tracing, with a limit of %s: \"tm stop\" comes first."
                          % plural(process.status()["traceback_limit"], "frame"))
        report = process.start(limit, chosen)
        for text in report.warnings:
            warn(text)
        write(str(report))


@command
class Stop(TmCommand):
    declaration = Declaration(
        name="stop",
        summary="Stop tracing: restore the program's code and forget the traces.",
        details="The process then runs at its native speed.  Snapshots already taken stay.\n"
                "Before \"run\", it takes back a \"tm start\" that waits for the process.",
        needs_tracing=True)

    def is_ready(self) -> bool:
        if framework.has_target():
            return process.needs_repair()
        return bool(process.status()["armed"])

    def run(self, values: Parsed, from_tty: bool) -> None:
        waiting = not process.has_process()
        report = process.stop()
        if waiting:
            write("The next \"run\" is not traced.")
            return
        write("Tracing stopped: %s restored." % plural(report.functions, "function"))


@command
class Unload(TmCommand):
    declaration = Declaration(
        name="unload",
        summary="After \"tm stop\", take the helper out of the process again.",
        details="Refused while a thread stands in the helper or will come back to it.  The next\n"
                "\"tm start\" loads it anew.")

    def run(self, values: Parsed, from_tty: bool) -> None:
        if inferior.is_core():
            raise TmError("This is a core file: \"tm unload\" needs a live process.")
        if not framework.has_target():
            raise TmError("There is no process for \"tm unload\".")
        check_stopped()
        write("Helper unloaded: %s given back."
              % _format_size(unload.unload(), False))


@command
class Clear(TmCommand):
    declaration = Declaration(
        name="clear",
        summary="Forget the traces of all blocks, and keep tracing.",
        details="Blocks that were allocated before are then as unknown as those allocated before\n"
                "\"tm start\".",
        needs_tracing=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        before = process.status()
        process.clear()
        write("Traces of %s, %s, forgotten; tracing goes on."
              % (plural(before["blocks"], "block"), _format_size(before["current"], False)))


@command
class ResetPeak(TmCommand):
    declaration = Declaration(
        name="reset-peak",
        summary="Set the peak of the traced memory to its current size.",
        needs_tracing=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        before = process.status()["peak"]
        process.reset_peak()
        write("Peak reset from %s to %s." % (_format_size(before, False),
                                             _format_size(process.status()["peak"], False)))


STATUS_KEYS = ("tracing", "traceback_limit", "current", "peak", "blocks", "tracebacks",
               "helper_memory", "dropped", "untracked_frees", "redirected", "sample_period",
               "min_size")
SAMPLED_KEYS = ("recorded", "size_error", "count_error")  # where sample_period is not 0


@command
class Status(TmCommand):
    declaration = Declaration(
        name="status",
        summary="Show whether the process is traced, its traced memory, and what tracing costs.",
        json=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        check_stopped()
        status = process.status()
        if values.json:
            keys = STATUS_KEYS + (SAMPLED_KEYS if status["sample_period"] else ())
            write_json(dict({"command": "status"}, **{key: status[key] for key in keys}))
        else:
            write(fitted("\n".join(status_lines(status, framework.has_target()))))


def status_lines(status: Dict[str, Any], has_process: bool) -> List[str]:
    """The text of `tm status`."""
    if not status["tracing"]:
        if status["armed"]:
            return ["Not tracing yet: the next \"run\" is traced with %s%s."
                    % (plural(status["armed"], "frame"), status["sampling"].aside)]
        if not has_process:
            return ["Not tracing: there is no process."]
        lines = ["Not tracing."]
        if status.get("helper_address"):
            lines.append("The helper is at %#x, idle, with %s of memory."
                         % (status["helper_address"],
                            _format_size(status["helper_memory"], False)))
        return lines
    lines = ["Tracing %s%s." % (plural(status["traceback_limit"], "frame"), since(status))]
    lines.append("Traced memory: %s in %s, peak %s."
                 % (_format_size(status["current"], False), plural(status["blocks"], "block"),
                    _format_size(status["peak"], False)))
    sampling = status["sampling"]
    if sampling.period:
        lines.append(sampled_text(status["recorded"], sampling, "memory", status["size_error"],
                                  status["current"]))
    elif sampling.min_size:
        lines.append("Smaller blocks are not recorded%s." % sampling.aside)
    lines.append("Tracebacks: %d." % status["tracebacks"])
    lines.append("Helper's own memory: %s%s."
                 % (_format_size(status["helper_memory"], False),
                    ", at %#x" % status["helper_address"] if status.get("helper_address") else ""))
    lines.append("Dropped records: %d.  Untracked frees: %s."
                 % (status["dropped"], status["untracked_frees"] if sampling == EVERYTHING
                    else "not counted while %s" % ("sampling" if sampling.period else
                                                   "small blocks are left out")))
    lines.append("Redirected functions:")
    modules: Dict[str, List[str]] = {}
    for entry in status["redirected"]:
        name = entry["function"]
        name += " (domain %d)" % entry["domain"] if entry["domain"] else ""
        modules.setdefault(entry["module"] or "?", []).append(name)
    for module, functions in modules.items():
        lines.append("  %s: %s" % (module, ", ".join(functions)))
    return lines


def since(status: Dict[str, Any]) -> str:
    """` in process 12 since 2024-05-01 13:04:05 (125 s)`, as far as it is known."""
    text = " in process %d" % status["pid"] if status.get("pid") else ""
    start = status.get("start_time")
    if start:
        seconds = start / 1e9
        moment = datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
        text += " since " + moment
        if not inferior.is_core():  # nobody knows when that was written
            text += " (%d s)" % max(0, int(time.time() - seconds))
    return text
