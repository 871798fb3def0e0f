"""`_tm.layout` says of every structure what the compiler's DWARF says of it, and
of every constant what the preprocessor says.

Needs gcc and gdb (to read the DWARF).  Must never use the field list it checks.
"""

import json
import os
import re
import subprocess
import tempfile
import unittest

import _tm

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HEADER = os.path.join(ROOT, "include", "tm_layout.h")

FIELDS_IN_GDB = """
import gdb, json
layout = {}
for name in %r:
    kind = gdb.lookup_type("struct " + name)
    layout[name] = [kind.sizeof, {field.name: [field.bitpos // 8, field.type.sizeof]
                                  for field in kind.fields()}]
print("LAYOUT", json.dumps(layout))
"""


def names_of_structures():
    with open(HEADER, encoding="utf-8") as file:
        return re.findall(r"^struct (tm_\w+) \{", file.read(), re.M)


class Layout(unittest.TestCase):
    def test_structures(self):
        with tempfile.TemporaryDirectory() as folder:
            built = os.path.join(folder, "layout.o")
            subprocess.run(["gcc", "-g", "-c", "-fno-eliminate-unused-debug-types", "-x", "c",
                            HEADER, "-o", built], check=True)
            script = os.path.join(folder, "fields.py")
            with open(script, "w", encoding="utf-8") as file:
                file.write(FIELDS_IN_GDB % (names_of_structures(),))
            output = subprocess.run(["gdb", "-nx", "-batch", "-x", script, built], check=True,
                                    capture_output=True, text=True).stdout
        theirs = json.loads(re.search(r"^LAYOUT (.*)$", output, re.M)[1])
        self.assertGreater(len(theirs), 12)
        self.assertEqual(_tm.layout["sizeof"], {name: size for name, (size, _) in theirs.items()})
        for name, (_size, fields) in theirs.items():
            self.assertEqual({field: list(place) for field, place
                              in _tm.layout["offsets"][name].items()}, fields, name)

    def test_constants(self):
        macros = subprocess.run(["gcc", "-E", "-dM", HEADER], check=True, capture_output=True,
                                text=True).stdout
        names = re.findall(r"^#define TM_(\w+) \S", macros, re.M)
        self.assertGreater(len(names), 30)
        source = '#include <stdio.h>\n#include "%s"\nint main(void) {\n' % HEADER
        source += "".join('printf("%%s %%llu\\n", "%s", (unsigned long long)TM_%s);\n'
                          % (name, name) for name in names) + "return 0; }\n"
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, "constants")
            subprocess.run(["gcc", "-x", "c", "-", "-o", program], input=source, text=True,
                           check=True)
            output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
        values = {name: int(value) for name, value in map(str.split, output.splitlines())}
        self.assertEqual({name: value for name, value in _tm.layout.items()
                          if name not in ("sizeof", "offsets")}, values)


class Codec(unittest.TestCase):
    def test_decode_gives_back_what_encode_took(self):
        for name, fields in _tm.layout["offsets"].items():
            empty = _tm.decode(name, bytes(_tm.layout["sizeof"][name]))
            self.assertEqual(set(empty), set(fields))
            values = {}
            for number, (field, value) in enumerate(empty.items(), 1):
                size = fields[field][1]
                values[field] = bytes([number]) * size if isinstance(value, bytes) else number
            packed = _tm.encode(name, values)
            self.assertEqual(len(packed), _tm.layout["sizeof"][name])
            self.assertEqual(_tm.decode(name, packed), values)
            for field, (offset, size) in fields.items():
                value = values[field]
                expected = value if isinstance(value, bytes) else value.to_bytes(size, "little")
                self.assertEqual(packed[offset:offset + size], expected)

    def test_signs(self):
        packed = _tm.encode("tm_counter", {"room": -5})
        self.assertEqual(_tm.decode("tm_counter", packed)["room"], -5)

    def test_bad_input_is_one_line(self):
        for call in (lambda: _tm.decode("tm_nothing", b""), lambda: _tm.decode("tm_node", b"123"),
                     lambda: _tm.encode("tm_node", {"adress": 1}),
                     lambda: _tm.encode("tm_node", {"address": 1 << 64}),
                     lambda: _tm.encode("tm_node", {"address": -1}),
                     lambda: _tm.encode("tm_node", {"parent": 1 << 32}),
                     lambda: _tm.encode("tm_patch", {"name": b"x" * 49})):
            with self.assertRaises(_tm.Error) as caught:
                call()
            self.assertNotIn("\n", str(caught.exception))
        with self.assertRaises(TypeError):
            _tm.encode("tm_node", {"address": "one"})


if __name__ == "__main__":
    unittest.main()
