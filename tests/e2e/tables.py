"""Reads the trace table of a stopped process a second way, as an oracle.

Offsets come from the helper's DWARF through a gdb of its own, bytes from
/proc/PID/mem; the rules are those that tm_layout.h states.  Must never use `_tm`
or the plugin: what it finds is compared with them.
"""
import json
import re
import struct
import subprocess

from gdbsession import BUILD

KEY_FOREIGN = 1 << 63
KEY_LARGE = 0x7fff
BUCKET_SLOTS = 5
NODE_ADDRESS_MASK = (1 << 56) - 1
NODE_ROOT = 1 << 63
NODE_TRUNCATED = 1 << 62
MAGIC = b"tmtable1"
SHARDS = 48
NODES_PER_CHUNK = 65536

DUMP_OFFSETS = """
import gdb, json
wanted = ("tm_header", "tm_generation", "tm_shard", "tm_segment", "tm_bucket", "tm_node",
          "tm_counter", "tm_patch", "tm_relay_region", "tm_module_list", "tm_module")
print(json.dumps({name: {
    "sizeof": gdb.lookup_type("struct " + name).sizeof,
    **{field.name: [field.bitpos // 8, field.type.sizeof]
       for field in gdb.lookup_type("struct " + name).fields()}} for name in wanted}))
"""


def layout_from_debug_info():
    """{struct: {field: [offset, size], "sizeof": bytes}} as the compiler laid it out."""
    done = subprocess.run(["/usr/bin/gdb", "-nx", "-q", "-batch", "-iex", "set style enabled off",
                           "-ex", "python exec(" + repr(DUMP_OFFSETS) + ")",
                           str(BUILD / "tm-helper.so")],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    line = [each for each in done.stdout.splitlines() if each.startswith("{")]
    if not line:
        raise AssertionError(f"no layout in the helper's debug info: {done.stdout}")
    return json.loads(line[0])


class Memory:
    """The memory of a stopped process."""

    def __init__(self, pid):
        self.pid = pid
        self.file = open(f"/proc/{pid}/mem", "rb", 0)

    def close(self):
        self.file.close()

    def read(self, address, length):
        self.file.seek(address)
        data = self.file.read(length)
        if len(data) != length:
            raise AssertionError(f"{length} bytes at {address:#x} could not be read")
        return data

    def maps(self):
        """(start, end, rights, path) of every mapping."""
        with open(f"/proc/{self.pid}/maps") as maps:
            for line in maps:
                bounds, rights, offset, device, inode, *path = line.split(None, 5)
                start, end = (int(each, 16) for each in bounds.split("-"))
                yield start, end, rights, path[0].strip() if path else ""


class Table:
    """The live blocks of one process, read slot by slot."""

    def __init__(self, pid, layout):
        self.memory, self.layout, self.nodes, self.domains = Memory(pid), layout, {}, {}
        self.generation_read = None
        self.header = self.find_header()

    def close(self):
        self.memory.close()

    def find_header(self):
        found = [start for start, end, rights, path in self.memory.maps()
                 if rights.startswith("rw") and (not path or path.startswith("[anon"))
                 and self.memory.read(start, 8) == MAGIC]
        if len(found) != 1:
            raise AssertionError(f"{len(found)} headers in the process")
        return found[0]

    def fields(self, name, address):
        """All integer fields of a struct in the process."""
        data = self.memory.read(address, self.layout[name]["sizeof"])
        return {field: int.from_bytes(data[place[0]:place[0] + place[1]], "little")
                for field, place in self.layout[name].items()
                if field != "sizeof" and place[1] <= 8}

    def generation(self):
        return self.fields("tm_generation", self.fields("tm_header", self.header)["generation"])

    def blocks(self, domain=0):
        """{address: (size, traceback id)} of a domain"""
        generation, blocks = self.generation(), {}
        if self.generation_read != generation["id"]:
            self.generation_read, self.nodes, self.domains = generation["id"], {}, {}
        for index in range(SHARDS):
            word = self.fields("tm_shard", generation["shards"]
                               + index * self.layout["tm_shard"]["sizeof"])["directory"]
            depth, directory = word & 63, word & ~63
            if not directory:
                continue
            entries = [entry & ~4095 for entry in struct.unpack(
                f"<{1 << depth}Q", self.memory.read(directory, 8 << depth))]
            for segment in set(entries):
                for address, foreign, size, node in self.records(segment):
                    shard, entry = self.entry(address, depth)
                    if shard != index or entries[entry] != segment:
                        continue
                    if foreign != bool(domain) or domain and self.root(node) != domain:
                        continue
                    if address in blocks:
                        raise AssertionError(f"block {address:#x} is in the table twice")
                    blocks[address] = size, node
        return blocks

    def records(self, segment):
        """(address, whether its domain is not 0, size, traceback id) of what a segment holds."""
        data = self.memory.read(segment, self.layout["tm_segment"]["sizeof"])
        for bucket in struct.iter_unpack("<5Q5I4x", data):
            keys, values = bucket[:BUCKET_SLOTS], bucket[BUCKET_SLOTS:]
            for slot, key in enumerate(keys):
                address, size = key & (1 << 48) - 1, key >> 48 & KEY_LARGE
                if address <= 1:
                    continue
                if size == KEY_LARGE:
                    size = (keys[slot + 1] >> 48 & KEY_LARGE) << 32 | values[slot + 1]
                yield address, bool(key & KEY_FOREIGN), size, values[slot]

    @staticmethod
    def entry(address, depth):
        """(shard, entry of its directory of this depth) where an address belongs"""
        half = (address & ~0x1ff0) * 0x1783a124ee5298a5 >> 32 & 0xffffffff | 1 << 31
        return (half * half >> 58) - 16, (half * half >> 58 - depth) % (1 << depth)

    def root(self, node):
        """The domain that a traceback leads to."""
        self.traceback(node)
        return self.domains[node]

    def traceback(self, node):
        """([return addresses, most recent first], truncated) of an id."""
        frames, generation = [], None
        first = node
        if first in self.nodes:
            return self.nodes[first]
        generation = self.generation()
        while True:
            if not 0 < node < generation["node_count"]:
                raise AssertionError(f"traceback {first} leads to node {node} of "
                                     f"{generation['node_count']}")
            chunk = struct.unpack("<Q", self.memory.read(
                generation["node_chunks"] + node // NODES_PER_CHUNK * 8, 8))[0]
            fields = self.fields("tm_node", chunk + node % NODES_PER_CHUNK
                                 * self.layout["tm_node"]["sizeof"])
            if fields["address"] & NODE_ROOT:
                self.nodes[first] = frames, bool(fields["address"] & NODE_TRUNCATED)
                self.domains[first] = fields["address"] & NODE_ADDRESS_MASK & ~NODE_TRUNCATED
                return self.nodes[first]
            frames.append(fields["address"] & NODE_ADDRESS_MASK)
            node = fields["parent"]


class Lines:
    """Return address -> (function, line) through binutils' addr2line."""

    def __init__(self, pid, program):
        starts = []
        with open(f"/proc/{pid}/maps") as maps:
            for line in maps:
                match = re.match(r"(\w+)-\w+ \S+ (\w+) .* (/.*)\n", line)
                if match and match.group(3) == program:
                    starts.append(int(match.group(1), 16) - int(match.group(2), 16))
        self.bias, self.known = min(starts), {}
        with open(program, "rb") as file:
            if struct.unpack_from("<H", file.read(18), 16)[0] == 2:  # ET_EXEC
                self.bias = 0
        self.process = subprocess.Popen(["addr2line", "-f", "-e", program],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def find(self, address):
        if address not in self.known:
            self.process.stdin.write(f"{address - 1 - self.bias:#x}\n")
            self.process.stdin.flush()
            function = self.process.stdout.readline().strip()
            line = self.process.stdout.readline().strip().rpartition(":")[2].split(" ")[0]
            self.known[address] = function, int(line) if line.isdigit() else 0
        return self.known[address]
