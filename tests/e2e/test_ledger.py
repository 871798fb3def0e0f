"""The trace table against a program's own list, at random instants: equal, every time.

A block that no thread is working on must be in the table with its size, the line
of its call and the whole way up to its thread's start; nothing else may be there
but one of the two legal states of each operation in flight.
`make test` takes 20 stops with 1 and with 25 frames; `make soak` takes 100 stops of
2,000,000 operations each.
"""
import os
import random
import re
import struct
import unittest

from gdbsession import FULL, ROOT, TestCase, build
from tables import Lines, Table, layout_from_debug_info

OPERATIONS = 2_000_000 if FULL else 400_000
STOPS = 100 if FULL else 20
ACTORS = 8
FLIGHT = struct.Struct("<QQQ QQII QQII")
FLAGS = "-O2 -g -pthread -fno-crossjumping -fno-tree-tail-merge"


class Ledger(TestCase):
    operations, stops = OPERATIONS, STOPS
    partitions, records, threads = 16, 2048, 8
    domain = 0
    arguments = ()  # who else allocates, see ledger.c

    def setUp(self):
        self.random = random.Random(20)
        self.binary = self.build()
        self.lines_of = {}
        source = (ROOT / "tests" / "e2e" / "ledger.c").read_text().splitlines()
        for number, text in enumerate(source, 1):
            match = re.search(r"/\* line: (\w+) \*/", text)
            if match:
                self.lines_of[match.group(1)] = number

    def build(self):
        return build("ledger.c", flags=FLAGS)

    def prepare(self, gdb):
        """Before tracing starts."""

    def expected_lines(self, line, depth, limit):
        """Lines of a block's frames, most recent first, as far as the program's source says."""
        depth, actor = depth & 255, depth >> 8
        lines = [line, self.lines_of["operate_odd" if depth % 2 else "operate_even"]]
        for level in range(depth, 0, -1):
            lines.append(self.lines_of["descend_odd" if level % 2 == 0 else "descend_even"])
        ends = ["act", f"actor{actor}"] if actor else ["work"]
        return (lines + [self.lines_of[each] for each in ends])[:limit]

    def read_program(self):
        memory = self.table.memory
        records = list(struct.iter_unpack("<QQII", memory.read(
            self.symbols["records"], self.partitions * self.records * 24)))
        flights = [flight for flight in FLIGHT.iter_unpack(memory.read(
            self.symbols["flights"], (self.threads + ACTORS) * FLIGHT.size)) if flight[0]]
        return records, flights

    def check_block(self, address, entry, size, line, depth, limit):
        found_size, node = entry
        self.assertEqual(found_size, size, f"size of {address:#x}, line {line}")
        frames, truncated = self.table.traceback(node)
        wanted = self.expected_lines(line, depth, limit)
        found = [self.lines.find(frame)[1] for frame in frames]
        self.assertEqual(found[:len(wanted)], wanted, f"lines of {address:#x}, depth {depth}")
        if depth < 256:
            self.assertEqual(len(frames), min(limit, depth + 5), "start_thread, clone3, no more")
            self.assertEqual(truncated, depth + 5 > limit)

    def explained(self, extra, flights, limit):
        """Can every extra block be the doing of one flight, each flight doing one at most?"""
        if not extra:
            return True
        address, (size, node) = extra[0]
        line = self.lines.find(self.table.traceback(node)[0][0])[1]
        for index, flight in enumerate(flights):
            releases, before, after = flight[2], flight[3:7], flight[7:11]
            is_before = releases and (address, size, line) == before[:3]
            is_after = after[2] and (size, line) == (after[1], after[2])
            if (is_before or is_after) and self.explained(
                    extra[1:], flights[:index] + flights[index + 1:], limit):
                return True
        return False

    def own_blocks(self):
        """The blocks in the table that are the program's own doing."""
        return self.table.blocks(self.domain)

    def compare(self, limit):
        """Holds the table against the list at one stop; returns the number of certain blocks."""
        records, flights = self.read_program()
        blocks = self.own_blocks()
        uncertain = {flight[1] for flight in flights}
        certain = 0
        for index, (address, size, line, depth) in enumerate(records):
            if address and index not in uncertain:
                if address not in blocks:
                    self.fail(f"block {address:#x} of {size} bytes, line {line}, is missing")
                self.check_block(address, blocks.pop(address), size, line, depth, limit)
                certain += 1
        self.assertTrue(self.explained(list(blocks.items()), flights, limit),
                        f"blocks that no thread has: {blocks}; in flight: {flights}")
        return certain

    def check(self, limit):
        program = self.program(self.binary, self.operations, *self.arguments)
        program.wait_for("ready")
        self.traced = program
        gdb = self.session()
        gdb.attach(program)
        self.prepare(gdb)
        self.assertStarted(gdb.run(f"tm start {limit}"), limit)
        self.table = Table(program.pid, layout_from_debug_info())
        self.addCleanup(self.table.close)
        self.lines = Lines(program.pid, self.binary)
        self.addCleanup(self.lines.close)
        self.symbols = {name: gdb.evaluate(f"(unsigned long)&{name}")
                        for name in ("records", "flights")}
        gdb.run("set var go = 1")
        most = stop = 0
        while stop < self.stops or most <= 5000:  # a short list means nothing
            self.assertLess(stop, 100 * self.stops, f"never more than {most} blocks")
            text = gdb.run_until_interrupted(program, self.random.uniform(0, 0.03))
            self.assertIn("SIGINT", text)
            most = max(most, self.compare(limit))
            stop += 1
        self.look_further(gdb, limit)
        gdb.run("set var leave = 1")
        gdb.send("continue")
        program.wait_for("paused")
        os.kill(program.pid, 2)
        gdb.wait()
        records, flights = self.read_program()
        self.assertEqual(flights, [])
        self.compare(limit)
        self.assertEqual(gdb.json("tm status -json")["dropped"], 0)
        self.check_snapshot(gdb, records)
        gdb.run("set var leave = 2")
        gdb.send("continue")
        status, output = program.finish()
        self.assertRegex(output, r"\d+ operations, 0 failures")
        self.assertGreaterEqual(int(re.search(r"(\d+) operations", output)[1]), self.operations)
        self.assertEqual(status, 0)

    def look_further(self, gdb, limit):
        """At the last of the random stops."""

    def check_snapshot(self, gdb, records):
        snapshot = gdb.json("tm snapshot -json")
        self.assertEqual(snapshot["blocks"], sum(1 for each in records if each[0]))
        self.assertEqual(snapshot["size"], sum(each[1] for each in records if each[0]))

    def test_one_frame(self):
        self.check(1)

    def test_25_frames(self):
        self.check(25)


if __name__ == "__main__":
    unittest.main()
