"""The ledger with other allocators, many threads, a domain, and others who allocate.

Forked children, threads that come and go, signal handlers, coroutines, code of
a library that is loaded and unloaded.  May use what test_ledger uses.
"""
import unittest

import test_ledger
from gdbsession import FULL, PROGRAMS, build
from tables import Table, layout_from_debug_info
from test_ledger import FLAGS

OPERATIONS = 400_000 if FULL else 60_000
STOPS = 40 if FULL else 4
LIMIT = 25


class Variant(test_ledger.Ledger):
    operations, stops = OPERATIONS, STOPS
    test_one_frame = test_25_frames = None

    def build(self):
        return build("ledger.c", name="ledger-variant", flags=FLAGS)


class OtherAllocator(Variant):
    libs = ""

    def build(self):
        return build("ledger.c", name=f"ledger-{type(self).__name__}",
                     flags=FLAGS + " -DOTHER_ALLOCATOR", libs=self.libs)


class Jemalloc(OtherAllocator):
    libs = "-Wl,--no-as-needed -ljemalloc"

    def test_jemalloc(self):
        self.check(LIMIT)


class JemallocLinkedIn(OtherAllocator):
    libs = "-Wl,-Bstatic -ljemalloc -Wl,-Bdynamic -lm -lstdc++"

    def test_jemalloc_linked_in(self):
        self.check(LIMIT)


class Tcmalloc(OtherAllocator):
    libs = "-Wl,--no-as-needed -ltcmalloc_minimal"

    def test_tcmalloc(self):
        self.check(LIMIT)


class Mimalloc(OtherAllocator):
    libs = "-Wl,--no-as-needed -lmimalloc"

    def test_mimalloc(self):
        # Debian 13 has mimalloc 3.0.1.  It forgets that a page holds aligned blocks when the page
        # changes hands, frees the wrong addresses then, and gives out the same memory twice.
        # One thread does always the same.
        program = build("ledger.c", name="ledger-mimalloc-alone", libs=self.libs,
                        flags=FLAGS + " -DOTHER_ALLOCATOR -DTHREADS=1 -DPARTITIONS=16 "
                                      "-DRECORDS=2048")
        status, output = self.program(program, 100_000, "alone").finish()
        if status:
            self.skipTest("with this mimalloc the program breaks without tm as well: "
                          f"{output.splitlines()[-1] if status > 0 else f'signal {-status}'}")
        self.check(LIMIT)


class Domain(Variant):
    domain = 2

    def build(self):
        return build("ledger.c", name="ledger-domain", flags=FLAGS + " -DDOMAIN")

    def prepare(self, gdb):
        text = gdb.run("tm domain add pool -alloc pool_alloc:1 -free pool_free:1 "
                       "-realloc pool_realloc:1:2")
        self.assertIn("Domain 2 (pool)", text)

    def check_snapshot(self, gdb, records):
        top = gdb.json("tm top domain -json -domain 2")
        self.assertEqual(top["total_count"], sum(1 for each in records if each[0]))
        self.assertEqual(top["total_size"], sum(each[1] for each in records if each[0]))

    def test_domain(self):
        self.check(LIMIT)


class ManyThreads(Variant):
    threads, partitions, records = 100, 128, 256

    def build(self):
        return build("ledger.c", name="ledger-threads",
                     flags=FLAGS + " -DTHREADS=100 -DPARTITIONS=128 -DRECORDS=256")

    def test_100_threads(self):
        self.check(LIMIT)


class Acted(Variant):
    """Beside the eight threads somebody allocates in another way."""

    least = 10  # what he must have done at the end

    def own_blocks(self):
        """Without those of libc: of threads, of loaded libraries."""
        return {address: entry for address, entry in super().own_blocks().items()
                if self.line_of(self.table.traceback(entry[1])[0])}

    def line_of(self, frames):
        return next((line for line in (self.lines.find(each)[1] for each in frames[:2]) if line),
                    0)

    def look_further(self, gdb, limit):
        """Goes on until he has done it so often."""
        while gdb.evaluate("acts") < self.least:
            gdb.run_until_interrupted(self.traced, 5 if FULL else 0.3)
            self.compare(limit)

    def check_snapshot(self, gdb, records):
        snapshot = gdb.json("tm snapshot -json")
        self.assertGreaterEqual(snapshot["blocks"], sum(1 for each in records if each[0]))


class Visitors(Acted):
    arguments = ("visitors",)
    least = 100_000 if FULL else 3000

    def test_threads_that_come_and_go(self):
        self.check(LIMIT)


class Signals(Acted):
    arguments = ("signals",)

    def prepare(self, gdb):
        gdb.run("handle SIGUSR1 nostop noprint pass")

    def test_signal_handlers_that_allocate(self):
        self.check(LIMIT)


class Coroutines(Acted):
    arguments = ("coroutines",)

    def test_coroutines(self):
        self.check(LIMIT)


class Libraries(Acted):
    least = 100 if FULL else 3  # gdb looks at each one

    @property
    def arguments(self):
        return ("libraries", build("ledger_plugin.c", name="ledger_plugin.so",
                                   flags="-O1 -g -shared -fPIC"))

    def expected_lines(self, line, depth, limit):
        if depth >> 8 == 5:
            return [0, line]
        return super().expected_lines(line, depth, limit)

    def test_libraries_that_come_and_go(self):
        self.check(LIMIT)


class Exceptions(Acted):
    arguments = ("exceptions",)
    least = 10_000 if FULL else 500

    def build(self):
        library = build("ledger_throw.cc", name="libledger_throw.so",
                        flags="-O1 -g -shared -fPIC")
        return build("ledger.c", name="ledger-exceptions", flags=FLAGS + " -DEXCEPTIONS",
                     libs=f"'{library}' '-Wl,-rpath,{PROGRAMS}'")

    def test_exceptions(self):
        self.check(LIMIT)


class Forks(Acted):
    arguments = ("forks",)

    def look_further(self, gdb, limit):
        """A child that still lives has an exact table too."""
        super().look_further(gdb, limit)
        while not gdb.evaluate("kept_child"):
            gdb.run_until_interrupted(self.traced, 0.2)
            self.compare(limit)
        pid = gdb.evaluate("kept_child")
        parent = self.table
        gdb.send("continue")
        child = self.session()
        child.run(f"attach {pid}")
        self.assertEqual(child.json("tm status -json")["dropped"], 0)
        self.table = Table(pid, layout_from_debug_info())
        self.assertGreater(self.compare(limit), 1000)
        actors = sum(1 for each in self.read_program()[0] if each[0] and each[3] >> 8 == 1)
        self.assertGreater(actors, 10, "the child has blocks of its own")
        self.table.close()
        self.assertIn("Tracing stopped", child.run("tm stop"))
        child.run("detach")
        self.table = parent
        self.traced.process.send_signal(2)
        gdb.wait()

    def test_forks(self):
        self.check(LIMIT)


if __name__ == "__main__":
    unittest.main()
