"""libtm-preload.so without TM_TRACE: nobody calls its stubs, and nothing else is different.

Breakpoints on every stub, from main on, tell who calls them: the loader alone may, because
it keeps its functions where no relocation tells.
"""
import json
import re
import shlex
import subprocess
import unittest

from gdbsession import FULL, Program, TestCase, build
from test_preload import LIBRARY, outcome

CALLERS = """
import gdb, json
found = set()

class Stub(gdb.Breakpoint):
    def stop(self):
        caller = int(gdb.parse_and_eval("*(unsigned long *)$sp"))
        found.add(gdb.solib_name(caller) or "program")
        return False

for address in %r:
    Stub(f"*{address}").silent = True
gdb.execute("continue", to_string=True)
print(json.dumps(sorted(found)))
"""
UNTRACED = {"LD_PRELOAD": str(LIBRARY)}
KINDS = {"now": "-Wl,-z,now", "lazy": "-Wl,-z,lazy", "no-pie": "-no-pie",
         "jemalloc": "-Wl,--no-as-needed -ljemalloc", "mimalloc": "-Wl,--no-as-needed -lmimalloc"}
QUICK = ("now", "lazy")


def mappings(pid):
    """[(first address, rights, path)] of a process's files."""
    with open(f"/proc/{pid}/maps") as maps:
        lines = [line.split() for line in maps]
    return [(int(line[0].split("-")[0], 16), line[1], line[5])
            for line in lines if len(line) > 5 and line[5].startswith("/")]


class Aside(TestCase):
    def callers(self, program, *arguments, **environment):
        """Who calls a stub between main and the end, and how the program ended."""
        gdb = self.session(program)
        for name, value in environment.items():
            gdb.run(f"set environment {name} {value}")
        gdb.run("break main")
        self.assertAtBreakpoint(gdb.run(f"run {shlex.join(arguments)} </dev/null"))
        base = min(start for start, rights, path in mappings(gdb.inferior_pid())
                   if path == str(LIBRARY))
        symbols = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], stdout=subprocess.PIPE,
                                 text=True, check=True).stdout.splitlines()
        addresses = [base + int(line.split()[0], 16) for line in symbols if " T " in line]
        found = json.loads(gdb.python(CALLERS % addresses).splitlines()[-1])
        return found, gdb.evaluate("$_exitcode")

    def assertLoaderAlone(self, found):
        callers, status = found
        self.assertEqual(status, 0)
        self.assertEqual([each for each in callers if not re.search(r"/ld-linux[^/]*$", each)], [])

    def test_the_loader_alone_calls_stubs(self):
        for kind in KINDS if FULL else QUICK:
            with self.subTest(kind):
                program = build("newdelete.cc", name=f"newdelete-{kind}",
                                flags="-O2 -g -std=c++17 " + KINDS[kind])
                self.assertLoaderAlone(self.callers(program, **UNTRACED))

    def test_musl(self):
        program = build("preloaded.c", name="preloaded-musl", compiler="musl-gcc")
        self.assertEqual(self.callers(program, "blocks", **UNTRACED), ([], 0))

    def test_libraries_that_come_later(self):
        paths = [build("preloaded.c", name=f"preloaded-{size}.so",
                       flags=f"-O2 -g -shared -fPIC -DPLUGIN={size} "
                             "-fno-optimize-sibling-calls")
                 for size in (3000, 40)]
        program = build("preloaded.c")
        self.assertLoaderAlone(self.callers(program, "plugins", *paths, **UNTRACED))
        callers, status = self.callers(program, "plugins", *paths, TM_TRACE="5", **UNTRACED)
        self.assertEqual(status, 0)
        self.assertTrue({"program", *paths} <= set(callers), callers)

    def test_what_is_mapped_and_how(self):
        found = []
        program = build("preloaded.c", name="preloaded-now", flags="-O2 -g " + KINDS["now"])
        for environment in ({}, UNTRACED):
            with Program(program, "blocks", env=environment) as each:
                each.wait_for("ready")
                found.append([(rights, path) for start, rights, path in mappings(each.pid)])
        library = [each for each in found[1] if each[1] == str(LIBRARY)]
        self.assertEqual([rights for rights, path in library if "w" in rights], ["rw-p"])
        self.assertEqual(found[0], [each for each in found[1] if each not in library])

    def test_in_a_process_with_threads(self):
        program = build("preloaded.c")
        self.assertEqual(outcome([program, "threads"], UNTRACED), (0, "ready\n", ""))


if __name__ == "__main__":
    unittest.main()
