"""`_tm.snapshot`, `find_block`, `blocks` and `counters` over a Python function that reads.

What is in an image, and what damage does, is in tests/unit/test_image.c; here
is how the reading function and the C code get on.  Must never need gdb.
"""

import random
import struct
import unittest

import _tm
import tm

LAYOUT = _tm.layout
BASE = 0x7f0000000000


class Table:
    """A small table in a pretended process: a segment for each shard that has a block."""

    def __init__(self, blocks=((0x5000, 64), (0x5100, 64))):
        self.bytes = bytearray()
        self.reads = 0
        self.header = self.add(bytes(LAYOUT["sizeof"]["tm_header"]))
        nodes = self.add(b"".join(_tm.encode("tm_node", {"address": address, "parent": parent})
                                  for address, parent in (
                                      (0, 0), (LAYOUT["NODE_ROOT"] | LAYOUT["DOMAIN_MMAP"], 0),
                                      (0x1111, 1), (0x2222 | LAYOUT["NODE_EXACT"], 2))))
        chunks = self.add(struct.pack("<Q", nodes))
        shards = [_tm.encode("tm_shard", {})] * LAYOUT["SHARDS"]
        for shard in {self.shard(address) for address, size in blocks}:
            self.bytes += bytes(-len(self.bytes) % 4096)
            segment = self.add(self.segment([(address, size) for address, size in blocks
                                             if self.shard(address) == shard]))
            shards[shard] = _tm.encode("tm_shard", {
                "directory": self.add(struct.pack("<Q", segment))})
        generation = self.add(_tm.encode("tm_generation", {
            "shards": self.add(b"".join(shards)), "node_chunks": chunks, "node_count": 4,
            "limit": 10, "memory": 500, "id": 3, "traceback_count": 1}))
        at = self.header - BASE
        header = _tm.encode("tm_header", {
            "magic": LAYOUT["MAGIC"], "version": LAYOUT["LAYOUT_VERSION"],
            "header_size": LAYOUT["sizeof"]["tm_header"], "self": self.header,
            "state": LAYOUT["STATE_TRACING"], "generation": generation, "memory": 70})
        self.bytes[at:at + len(header)] = header

    @staticmethod
    def shard(address):
        half = (address & ~0x1ff0) * 0x1783a124ee5298a5 >> 32 & 0xffffffff | 1 << 31
        return (half * half >> 58) - 16

    @staticmethod
    def segment(blocks):
        """Two slots for each block: sizes of all kinds have room."""
        buckets = b""
        for address, size in blocks:
            large = size >= LAYOUT["KEY_LARGE"]
            shift = LAYOUT["KEY_SIZE_SHIFT"]
            keys = [address | min(size, LAYOUT["KEY_LARGE"]) << shift,
                    (LAYOUT["KEY_SIZE"] | size >> 32 << shift) * large, 0, 0, 0]
            buckets += _tm.encode("tm_bucket", {
                "key": struct.pack("<5Q", *keys),
                "traceback": struct.pack("<5I", 3, (size & 0xffffffff) * large, 0, 0, 0)})
        return buckets.ljust(LAYOUT["sizeof"]["tm_segment"], b"\0")

    def add(self, contents):
        self.bytes += bytes(-len(self.bytes) % 64)
        self.bytes += contents
        return BASE + len(self.bytes) - len(contents)

    def read(self, address, length):
        self.reads += 1
        at = address - BASE
        if at < 0 or at + length > len(self.bytes):
            raise LookupError("no memory at %#x" % address)
        return bytes(self.bytes[at:at + length])


class Reading(unittest.TestCase):
    def setUp(self):
        self.table = Table()

    def calls(self, read):
        header = self.table.header
        return (lambda: _tm.snapshot(read, header), lambda: _tm.counters(read, header),
                lambda: _tm.find_block(read, header, 0x5000),
                lambda: _tm.blocks(read, header, 10))

    def test_snapshot(self):
        image = _tm.snapshot(self.table.read, self.table.header)
        snapshot = tm.Snapshot.from_image(
            image, lambda addresses: [[tm.Frame("f.c", address, address=address)]
                                      for address, _exact in addresses])
        (trace, count), = snapshot.rows()
        self.assertEqual((trace.size, trace.domain, count), (64, LAYOUT["DOMAIN_MMAP"], 2))
        self.assertEqual([frame.lineno for frame in trace.traceback], [0x1111, 0x2222])

    def test_find_block(self):
        found = (0x5000, 64, LAYOUT["DOMAIN_MMAP"], [0x2222 | LAYOUT["NODE_EXACT"], 0x1111], False)
        for address in (0x5000, 0x503f):
            self.assertEqual(_tm.find_block(self.table.read, self.table.header, address), found)
        self.assertIsNone(_tm.find_block(self.table.read, self.table.header, 0x5040))

    def test_blocks(self):
        path = [0x2222 | LAYOUT["NODE_EXACT"], 0x1111]
        rows = [(0x5100, 70, LAYOUT["DOMAIN_MMAP"], path, False),
                (0x5000, 64, LAYOUT["DOMAIN_MMAP"], path, False),
                (0x5200, 64, LAYOUT["DOMAIN_MMAP"], path, False)]
        table = Table([(0x5200, 64), (0x5000, 64), (0x5100, 70)])
        for limit in range(4):
            self.assertEqual(_tm.blocks(table.read, table.header, limit), rows[:limit])
        self.assertEqual(_tm.blocks(table.read, table.header, 1 << 63), rows)
        asked = []
        self.assertEqual(_tm.blocks(table.read, table.header, 9, lambda *what: asked.append(what)),
                         [])
        self.assertEqual(asked, [(LAYOUT["DOMAIN_MMAP"], path, False)])  # once for a traceback
        self.assertEqual(_tm.blocks(table.read, table.header, 2, lambda *what: True), rows[:2])
        with self.assertRaises(ZeroDivisionError):
            _tm.blocks(table.read, table.header, 2, lambda *what: 1 / 0)
        with self.assertRaises(TypeError):
            _tm.blocks(table.read, table.header, 2, lambda: True)

    def test_the_largest_of_many_blocks(self):
        chance = random.Random(3)
        blocks = [(0x5000 + place * 4112, chance.choice((0, 8, 64, chance.randrange(1 << 47))))
                  for place in range(200)]
        table = Table(blocks)
        wanted = sorted(blocks, key=lambda block: (-block[1], block[0]))
        for limit in (1, 2, 3, 17, 199, 200, 201):
            self.assertEqual([row[:2] for row in _tm.blocks(table.read, table.header, limit)],
                             wanted[:limit])

    def test_counters(self):
        counters = _tm.counters(self.table.read, self.table.header)
        self.assertEqual(counters["tracing"], True)
        self.assertEqual((counters["limit"], counters["blocks"], counters["tracebacks"],
                          counters["helper_memory"], counters["generation"]), (10, 2, 1, 570, 3))

    def test_reads_are_few(self):
        self.table.reads = 0
        _tm.snapshot(self.table.read, self.table.header)
        self.assertLess(self.table.reads, 12)

    def test_any_bytes_will_do(self):
        for kind in (bytearray, memoryview):
            self.assertEqual(
                _tm.find_block(lambda *where, as_kind=kind: as_kind(self.table.read(*where)),
                               self.table.header, 0x5000)[0], 0x5000)

    def test_what_reading_raises_passes_through(self):
        for kind in (LookupError, KeyboardInterrupt, MemoryError):
            for allowed in range(4):
                def read(address, length, raised=kind, left=[allowed]):
                    left[0] -= 1
                    if left[0] < 0:
                        raise raised("not now")
                    return self.table.read(address, length)
                for call in self.calls(read):
                    read.__defaults__[1][0] = min(allowed, 2)
                    with self.assertRaises(kind):
                        call()

    def test_wrong_answers_of_reading(self):
        for wrong in (lambda *_where: b"", lambda _address, length: bytes(length + 1)):
            for call in self.calls(wrong):
                with self.assertRaisesRegex(_tm.Error, "instead of"):
                    call()
        for wrong in (lambda *_where: None, lambda: b"", None):
            for call in self.calls(wrong):
                with self.assertRaises(TypeError):
                    call()


if __name__ == "__main__":
    unittest.main()
