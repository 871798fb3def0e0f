"""Which traces the reports count: `tm filter …`, `tm skip`.

May use: tm.model's filters.  Must never change a snapshot: filtering makes a
new one.
"""

from typing import Any

from tm.commands.framework import PrefixCommand, TmCommand, command
from tm.commands.output import write, write_json
from tm.commands.selection import MAX_DOMAIN, filters as active, skipped
from tm.errors import TmError
from tm.model import DomainFilter, Filter
from tm.options import Argument, Declaration, Option, Parsed


@command
class FilterPrefix(PrefixCommand):
    declaration = Declaration(
        name="filter", prefix=True,
        summary="Choose which traces the reports count.",
        details="Filters are those of tracemalloc: a trace counts when at least one of the\n"
                "inclusive filters matches it (or there is none), and none of the exclusive ones.")


@command
class FilterAdd(TmCommand):
    declaration = Declaration(
        name="filter add",
        summary="Add a filter that the reports respect.",
        arguments=(Argument("GLOB", "word", "Source files, as in \"*/session.cc\"; with \":LINE\", "
                            "one line of them.", optional=True),),
        options=(Option("exclude", "Leave matching traces out, instead of keeping only them."),
                 Option("all-frames", "Match any frame, not only the most recent one."),
                 Option("domain", "Match only blocks of this domain.", "integer", "N",
                        minimum=0, maximum=MAX_DOMAIN)),
        examples=("tm filter add */session.cc:88", "tm filter add -exclude */json.cc"))

    def run(self, values: Parsed, from_tty: bool) -> None:
        if values.glob is None and values.domain is None:
            raise TmError("A filter needs a GLOB of source files, or -domain N, or both.")
        if values.glob is None:
            if values.all_frames:
                raise TmError("-all-frames needs a GLOB of source files.")
            active.append(DomainFilter(not values.exclude, values.domain))
        else:
            pattern, lineno = split_glob(values.glob)
            active.append(Filter(not values.exclude, pattern, lineno, values.all_frames,
                                 values.domain))
        write("Filter %d: %s." % (len(active), describe(active[-1])))


def split_glob(text: str) -> Any:
    """`*/a.cc:12` is the file and the line."""
    pattern, colon, line = text.rpartition(":")
    if colon and line.isdigit():
        return pattern, int(line)
    return text, None


def describe(each: Any) -> str:
    """A filter as the user would say it."""
    words = ["include" if each.inclusive else "exclude"]
    if isinstance(each, Filter):
        words.append(each.filename_pattern
                     + (":%d" % each.lineno if each.lineno is not None else ""))
        if each.all_frames:
            words.append("in any frame")
    if each.domain is not None:
        words.append("in domain %d" % each.domain)
    return " ".join(words)


@command
class FilterList(TmCommand):
    declaration = Declaration(
        name="filter list",
        summary="List the filters with their numbers.",
        json=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        if values.json:
            write_json({"command": "filter list", "filters": [
                {"number": number, "inclusive": each.inclusive, "domain": each.domain,
                 "filename_pattern": getattr(each, "filename_pattern", None),
                 "lineno": getattr(each, "lineno", None),
                 "all_frames": getattr(each, "all_frames", False)}
                for number, each in enumerate(active, 1)]})
        elif not active:
            write("No filters.")
        else:
            write("\n".join("%d: %s" % (number, describe(each))
                            for number, each in enumerate(active, 1)))


@command
class FilterDelete(TmCommand):
    declaration = Declaration(
        name="filter delete",
        summary="Delete a filter.",
        arguments=(Argument("N", "integer", "Its number in \"tm filter list\".", minimum=1),))

    def run(self, values: Parsed, from_tty: bool) -> None:
        if values.n > len(active):
            raise TmError("No filter %d: %s." % (values.n, "there are none" if not active
                          else "there are %d" % len(active)))
        del active[values.n - 1]


@command
class FilterClear(TmCommand):
    declaration = Declaration(
        name="filter clear",
        summary="Delete all filters.")

    def run(self, values: Parsed, from_tty: bool) -> None:
        active.clear()


@command
class Skip(TmCommand):
    declaration = Declaration(
        name="skip",
        summary="Name functions that never count as the most recent frame.",
        arguments=(Argument("GLOB", "word", "Functions, as in \"xmalloc\" or \"g_*alloc*\".",
                            optional=True, repeated=True),),
        options=(Option("clear", "Forget all functions named before."),),
        details="Blocks that a wrapper such as xmalloc allocates then count for its callers.\n"
                "Without arguments, lists the functions.",
        examples=("tm skip xmalloc g_malloc*", "tm skip -clear"),
        json=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        if values.clear:
            skipped.clear()
        skipped.extend(glob for glob in values.glob if glob not in skipped)
        if values.json:
            write_json({"command": "skip", "functions": list(skipped)})
        elif not values.glob and not values.clear:
            write("Skipping: %s." % ", ".join(skipped) if skipped else "No functions are skipped.")
