"""A script written for tracemalloc, in a real gdb: its functions tell what the program
itself counted, to the byte, whatever the limit is.

May use gdbsession; the scripts run inside gdb, as a user's would.
"""
import ast
import unittest

from gdbsession import TestCase, build

BASE = 6  # frames around the calls of descend(): _start, two of libc, main; allocate
MEMORY = "tracemalloc.get_traced_memory()"
FIRST, LAST = 5, 249  # blocks[] that descend() allocated and nothing else touched


class Functions(TestCase):
    def setUp(self):
        self.gdb = self.session(build("counted.c"))
        self.gdb.run("break checkpoint")
        self.gdb.run("run")
        self.gdb.run("python import tm as tracemalloc")

    def ask(self, expression):
        """What a Python expression gives inside gdb."""
        text = self.gdb.run(f"python print(repr({expression}))")
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            raise AssertionError(f"{expression}: {text}") from None

    def go(self):
        self.assertAtBreakpoint(self.gdb.run("continue"))

    def counted(self):
        """What the program counted: (held, peak)."""
        return self.gdb.evaluate("held"), self.gdb.evaluate("peak")

    def assertCounted(self):
        self.assertEqual(self.ask(MEMORY), self.counted())
        self.assertEqual(self.ask("sum(trace.size for trace in "
                                  "tracemalloc.take_snapshot().traces)"), self.counted()[0])

    def length(self, place):
        return self.ask("(lambda t: (len(t), t.total_nframe))(tracemalloc.get_object_traceback("
                        f"gdb.parse_and_eval('blocks[{place}].address')))")

    def check_limit(self, limit):
        self.assertEqual(self.ask("tracemalloc.is_tracing()"), False)
        self.assertEqual(self.ask(MEMORY), (0, 0))
        self.gdb.run(f"python tracemalloc.start({limit})")
        self.assertEqual(self.ask("tracemalloc.is_tracing()"), True)
        self.assertEqual(self.ask("tracemalloc.get_traceback_limit()"), limit)
        self.assertEqual(self.ask(MEMORY), (0, 0))
        self.go()
        self.assertCounted()
        self.assertGreater(self.counted()[1], self.counted()[0])
        for place in (FIRST, 30, 193, 194, 195, LAST):
            whole = place + BASE
            self.assertEqual(self.length(place),
                             (min(whole, limit), whole if whole <= limit else None))
        self.assertEqual(self.ask("tracemalloc.take_snapshot().traceback_limit"), limit)
        self.assertEqual(self.ask("max(len(trace.traceback) for trace in "
                                  "tracemalloc.take_snapshot().traces)"), min(limit, LAST + BASE))
        self.check_peak_and_clear()
        self.gdb.run("python tracemalloc.stop()")
        self.assertEqual(self.ask("tracemalloc.is_tracing()"), False)
        self.assertEqual(self.ask(MEMORY), (0, 0))

    def check_peak_and_clear(self):
        self.gdb.run("python tracemalloc.reset_peak()")
        self.gdb.run("set var peak = held")
        self.assertCounted()
        self.go()
        self.assertCounted()
        self.gdb.run("python tracemalloc.clear_traces()")
        self.gdb.run("set var held = 0")
        self.gdb.run("set var peak = 0")
        self.assertCounted()
        self.assertEqual(self.ask("tracemalloc.is_tracing()"), True)
        self.assertEqual(self.ask("tracemalloc.get_object_traceback("
                                  "gdb.parse_and_eval('blocks[200].address'))"), None)
        self.go()
        self.assertCounted()

    def test_limit_1(self):
        self.check_limit(1)

    def test_limit_10(self):
        self.check_limit(10)

    def test_limit_25(self):
        self.check_limit(25)

    def test_limit_200(self):
        self.check_limit(200)

    def test_own_memory_grows_and_shrinks(self):
        own = "tracemalloc.get_tracemalloc_memory()"
        self.assertEqual(self.ask(own), 0)
        self.gdb.run("python tracemalloc.start(10)")
        empty = self.ask(own)
        self.assertGreater(empty, 0)
        self.go()
        self.go()
        self.gdb.run("python tracemalloc.clear_traces()")
        self.gdb.run("set var held = 0")
        self.gdb.run("set var peak = 0")
        self.go()
        self.go()
        full = self.ask(own)
        self.assertGreaterEqual(full, empty + 200000 * 16)  # a slot is 16 bytes
        self.assertLessEqual(full, empty + 200000 * 40)
        self.assertCounted()
        self.gdb.run("python tracemalloc.clear_traces()")
        self.assertLessEqual(self.ask(own), empty)
        self.go()
        self.assertEqual(self.ask(MEMORY), (0, 0))

    def test_traceback_of_an_object(self):
        self.gdb.run("python tracemalloc.start(25)")
        self.go()
        self.gdb.run("python value = gdb.parse_and_eval('blocks[7].address')")
        self.gdb.run("python found = tracemalloc.get_object_traceback(value)")
        size = 100 + 7 * 7
        for same in ("int(value)", "value + 1", f"int(value) + {size - 1}",
                     "value.dereference().address", "gdb.parse_and_eval('blocks[7].address[5]')"
                     ".address", "gdb.parse_and_eval('(unsigned long) blocks[7].address')",
                     "gdb.parse_and_eval('*(struct block *) blocks[7].address')",
                     "gdb.parse_and_eval('*(char (*)[20]) blocks[7].address')"):
            self.assertEqual(self.ask(f"tracemalloc.get_object_traceback({same}) == found"), True,
                             same)
        for other in (f"int(value) + {size}", "0", "1", "2 ** 64 - 1", "gdb.parse_and_eval('main')",
                      "gdb.parse_and_eval('blocks')", "gdb.parse_and_eval('&blocks')"):
            self.assertEqual(self.ask(f"tracemalloc.get_object_traceback({other})"), None, other)
        functions = self.ask("[frame.function for frame in found]")
        self.assertEqual(functions[-10:], ["main"] + ["descend"] * 8 + ["allocate"])
        names = self.ask("[(frame.filename, frame.lineno) for frame in found]")
        self.assertTrue(names[-1][0].endswith("/counted.c"), names)
        self.assertEqual(self.ask("[tuple(line.split(chr(10))) for line in found.format(limit=1)]"),
                         [(f'  File "{names[-1][0]}", line {names[-1][1]}',),
                          ("    block->address = malloc(size);",)])
        self.assertEqual(self.ask("str(found[-1])"), "%s:%d" % names[-1])

    def test_not_tracing(self):
        for call, answer in (("stop()", None), ("clear_traces()", None), ("reset_peak()", None),
                             ("get_object_traceback(4096)", None), ("is_tracing()", False),
                             ("get_traced_memory()", (0, 0)), ("get_tracemalloc_memory()", 0)):
            self.assertEqual(self.ask(f"tracemalloc.{call}"), answer, call)
        self.assertIn("RuntimeError(", self.gdb.python(
            "import tm\ntry:\n    tm.take_snapshot()\n"
            "except RuntimeError as error:\n    print(repr(error))\n"))

    def test_starting_twice_and_anew(self):
        self.gdb.run("python tracemalloc.start(10)")
        self.assertEqual(self.gdb.run("python tracemalloc.start(25)"), "")
        self.assertEqual(self.ask("tracemalloc.get_traceback_limit()"), 10)
        self.go()
        self.gdb.run("python snapshot = tracemalloc.take_snapshot()")
        self.gdb.run("python tracemalloc.stop()")
        self.gdb.run("python tracemalloc.start(25)")
        self.assertEqual(self.ask(MEMORY), (0, 0))  # traces of before are gone …
        self.assertGreater(self.ask("len(snapshot.traces)"), 200)  # … but not the snapshot
        self.assertEqual(self.ask("tracemalloc.get_traceback_limit()"), 25)

    def test_snapshots_around_a_reset_of_the_peak_compare(self):
        self.gdb.run("python tracemalloc.start(10)")
        self.go()
        self.gdb.run("python before = tracemalloc.take_snapshot()")
        self.gdb.run("python tracemalloc.reset_peak()")
        compare = ("[(one.size_diff, one.count_diff) for one in "
                   "tracemalloc.take_snapshot().compare_to(before, 'lineno') if one.size_diff]")
        self.assertEqual(self.ask(compare), [])
        freed = self.gdb.evaluate("blocks[4].size")
        self.go()
        self.assertEqual(self.ask(compare), [(-freed, -1)])

    def test_blocks_from_before_the_start_are_not_there(self):
        self.go()
        self.gdb.run("python tracemalloc.start(10)")
        self.assertEqual(self.ask("len(tracemalloc.take_snapshot().traces)"), 0)
        self.assertEqual(self.ask("tracemalloc.get_object_traceback("
                                  "gdb.parse_and_eval('blocks[9].address'))"), None)
        self.go()
        self.go()
        self.assertEqual(self.ask("[len(tracemalloc.take_snapshot().traces)]"), [95])

    def test_a_new_process_is_traced_from_its_first_instruction(self):
        self.gdb.run("kill")
        self.gdb.run("python tracemalloc.start(10)")
        self.assertEqual(self.ask("tracemalloc.is_tracing()"), False)
        self.gdb.run("run")
        self.assertEqual(self.ask("tracemalloc.is_tracing()"), True)
        self.assertEqual(self.ask(MEMORY), (0, 0))
        self.go()
        self.assertCounted()


if __name__ == "__main__":
    unittest.main()
