"""A damaged header or table: every command says so in one line, or is still right.

What a damaged number makes a command do shows in what gdb reads meanwhile.

Each field in turn is overwritten in a stopped process and put back afterwards.
`make test` overwrites each with one value, `make soak` with all.
"""
import contextlib
import random
import re
import unittest

from gdbsession import FULL, TestCase, build
from tables import Memory, Table, layout_from_debug_info

READING = ("tm status", "tm status -json", "tm snapshot", "tm top", "tm top traceback -json",
           "tm traceback {block:#x}", "tm traces", "tm doctor")
CHANGING = ("tm clear", "tm reset-peak", "tm stop")
READ_AT_MOST = 16 << 20  # bytes


def values(size, rng):
    """What a field is overwritten with."""
    found = [bytes(size), b"\xff" * size, bytes(rng.randrange(256) for _ in range(size)),
             (1).to_bytes(size, "little")]
    return found if FULL else [rng.choice(found)]


class Corrupted(TestCase):
    def setUp(self):
        self.random = random.Random(5)
        self.layout = layout_from_debug_info()
        self.begin()

    def begin(self):
        """A process with fifty blocks, stopped."""
        self.traced = self.program(build("matrix.c", name="corrupted"))
        self.traced.wait_for("ready")
        self.gdb = self.session()
        self.gdb.attach(self.traced)
        self.assertStarted(self.gdb.run("tm start 5"), 5)
        self.gdb.send("continue")
        self.traced.write("a")
        self.traced.wait_for("allocated")
        self.traced.process.send_signal(2)
        self.gdb.wait()
        self.block = self.gdb.evaluate("(unsigned long)kept[7]")
        self.look()
        self.memory = Memory(self.traced.pid)
        self.addCleanup(self.memory.close)

    def look(self):
        table = Table(self.traced.pid, self.layout)
        self.places = self.find(table)
        table.close()

    def find(self, table):
        """{struct: address of one that matters}"""
        header = table.fields("tm_header", table.header)
        generation = table.fields("tm_generation", header["generation"])
        shard = (generation["shards"]
                 + table.entry(self.block, 0)[0] * self.layout["tm_shard"]["sizeof"])
        directory = table.fields("tm_shard", shard)["directory"]
        entry = (directory & ~63) + 8 * table.entry(self.block, directory & 63)[1]
        segment = int.from_bytes(table.memory.read(entry, 8), "little") & ~4095
        slots = table.memory.read(segment, self.layout["tm_segment"]["sizeof"])
        bucket = segment + (max(slots.find(self.block.to_bytes(6, "little")), 0) & ~63)
        modules = header["modules"]
        node = table.blocks().get(self.block, (0, 0))[1]
        chunk = int.from_bytes(table.memory.read(generation["node_chunks"], 8), "little")
        return {
            "tm_header": table.header,
            "tm_generation": header["generation"],
            "tm_shard": shard,
            "tm_bucket": bucket,
            "tm_node": chunk + node * self.layout["tm_node"]["sizeof"],
            "tm_counter": generation["counters"],
            "tm_patch": header["patches"],
            "tm_relay_region": header["relays"],
            "tm_module_list": modules,
            "tm_module": modules + self.layout["tm_module_list"]["sizeof"],
        }

    def write(self, address, data):
        with open(f"/proc/{self.traced.pid}/mem", "r+b", 0) as memory:
            memory.seek(address)
            memory.write(data)

    def read_by_gdb(self):
        """Bytes that gdb has read of files and of the program, see proc(5)."""
        with open(f"/proc/{self.gdb.process.pid}/io") as counters:
            return int(re.search(r"rchar: (\d+)", counters.read())[1])

    def say(self, command, what):
        """Runs a command, which must read little, and end in one line or with an answer."""
        before = self.read_by_gdb()
        text = self.gdb.run(command.format(block=self.block))
        read = self.read_by_gdb() - before
        self.assertLess(read, READ_AT_MOST, f"{command} with {what}: {text}")
        for bad in ("Error occurred in Python", "Python Exception", "Traceback (most", "internal"):
            self.assertNotIn(bad, text, f"{command} with {what}")
        return text

    def corruptions(self, structures):
        for structure in structures:
            for field in self.layout[structure]:
                if field == "sizeof" or field.startswith("reserved"):
                    continue
                offset, size = self.layout[structure][field]
                for data in values(size, self.random):
                    address = self.places[structure] + offset
                    before = self.memory.read(address, size)
                    if data != before:
                        yield f"{structure}.{field} = {data.hex()}", address, before, data

    def check_reading(self, *structures):
        right = {command: self.say(command, "nothing") for command in READING}
        count = 0
        for what, address, before, data in self.corruptions(structures):
            self.write(address, data)
            for command in READING:
                text = self.say(command, what)
                damaged = "\n" not in text and re.search(r"\w", text)
                whole = text.startswith((right[command][:6], "Not tracing."))
                self.assertTrue(damaged or whole, f"{command} with {what}: {text}")
            self.write(address, before)
            count += 1
        self.assertGreater(count, 2)
        for command in READING[:1] + READING[3:6]:
            self.assertEqual(self.say(command, "nothing")[:50], right[command][:50])
        self.gdb.run("tm stop")
        self.gdb.run("detach")
        self.traced.write("b")
        self.assertEqual(self.traced.finish()[0], 7)

    def check_changing(self, *structures):
        """Commands that call the helper: in one line, and gdb lives; so does the program."""
        for command in CHANGING:
            for what, address, before, data in self.corruptions(structures):
                self.write(address, data)
                text = self.say(command, what)
                self.assertEqual(text.count("\n"), 0, f"{command} with {what}: {text}")
                with contextlib.suppress(OSError, AssertionError):  # it has gone, as it should
                    if self.memory.read(address, len(data)) == data:  # else it is new
                        self.write(address, before)
                self.assertIsNone(self.traced.process.poll(), f"{command} with {what}: {text}")
                self.mend(f"{command} with {what}: {text}")

    def mend(self, what):
        """Traced again, with the same helper; or a new process, where only that can be."""
        status = self.say("tm status -json", what)
        if '"tracing":true' not in status:
            self.assertStarted(self.gdb.run("tm start 5"), 5)
        self.look()

    def test_changing_patches(self):
        self.check_changing("tm_patch")

    def test_changing_header(self):
        self.check_changing("tm_header")

    def test_changing_generation(self):
        self.check_changing("tm_generation")

    def test_header(self):
        self.check_reading("tm_header")

    def test_generation(self):
        self.check_reading("tm_generation", "tm_counter")

    def test_table(self):
        self.check_reading("tm_shard", "tm_bucket", "tm_node")

    def test_patches(self):
        self.check_reading("tm_patch", "tm_relay_region")

    def test_modules(self):
        self.check_reading("tm_module_list", "tm_module")


if __name__ == "__main__":
    unittest.main()
