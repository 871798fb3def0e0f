"""Allocators of the program's own: `tm domain …`.

May use: tm.domains for what is declared, tm.process for what is redirected.
Must never touch the inferior in another way.
"""

from tm import domains, inferior, maps, process
from tm.commands.framework import PrefixCommand, TmCommand, check_stopped, command
from tm.commands.output import plural, write, write_json
from tm.errors import TmError
from tm.options import Argument, Declaration, Option, Parsed


@command
class DomainPrefix(PrefixCommand):
    declaration = Declaration(
        name="domain", prefix=True,
        summary="Trace allocators of the program's own, in domains of their own.",
        details="Domain 0 is malloc and its family, 1 is mmap, the others are declared with\n"
                "\"tm domain add\".  Alone it lists them.")
    alone = "list"


@command
class DomainList(TmCommand):
    declaration = Declaration(
        name="domain list",
        summary="List the domains and their functions.",
        json=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        if values.json:
            write_json({"command": "domain list", "domains": [
                {"number": 0, "name": "malloc", "functions": None}] + [
                {"number": each.number, "name": each.name, "functions": list(each.functions)}
                for each in domains.declared()]})
            return
        lines = ["0 malloc: malloc and its family, operator new and delete"]
        for domain in domains.declared():
            lines.append("%d %s: %s" % (domain.number, domain.name, ", ".join(domain.functions)))
        write("\n".join(lines))


@command
class DomainAdd(TmCommand):
    declaration = Declaration(
        name="domain add",
        summary="Trace an allocator by the names of its functions.",
        arguments=(Argument("NAME", "word", "The domain's name; \"mmap\" needs no functions."),),
        options=(
            Option("alloc", "Returns a block.  Its size is argument SIZEARG (default 1), times "
                   "COUNTARG; with \">PTRARG\" it stores the block through that argument.",
                   "word", "FUNC[:SIZEARG[*COUNTARG]][>PTRARG]"),
            Option("free", "Takes a block, as argument PTRARG (default 1).", "word",
                   "FUNC[:PTRARG]"),
            Option("realloc", "Takes a block and returns one of another size.", "word",
                   "FUNC:PTRARG:SIZEARG")),
        details="Arguments are counted from 1.  Functions that are static in the program are\n"
                "found too.  A declared domain stays for later starts; while tracing it takes\n"
                "effect at once.",
        examples=("tm domain add pool -alloc pool_alloc:2 -free pool_free:2", "tm domain add mmap"))

    def run(self, values: Parsed, from_tty: bool) -> None:
        domain = domains.make(values.name, values.alloc, values.free, values.realloc)
        if process.has_process():
            check_stopped()
        if process.is_tracing():
            files = list(maps.mapped_files(inferior.memory_map()))
            functions = domains.functions_of(domain, files)
            process.redirect_more(functions)
            domains.declare(domain)
            write("Domain %d (%s): %s redirected."
                  % (domain.number, domain.name, plural(len(functions), "function")))
        else:
            domains.declare(domain)
            write("Domain %d (%s) is traced from the next \"tm start\" on."
                  % (domain.number, domain.name))


@command
class DomainRemove(TmCommand):
    declaration = Declaration(
        name="domain remove",
        summary="Forget a domain.",
        arguments=(Argument("NAME", "word", "The domain's name."),))

    def run(self, values: Parsed, from_tty: bool) -> None:
        if process.is_tracing():
            raise TmError("Blocks of the domain are being traced: \"tm stop\" comes first.")
        domain = domains.remove(values.name)
        write("Domain %d (%s) removed." % (domain.number, domain.name))
