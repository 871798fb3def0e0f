"""The page that says which test holds which rule of tracemalloc's documentation is true.

May use: the standard library.  Must never import the plugin.
"""
import pathlib
import re
import tracemalloc
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "gdb-plugin" / "TRACEMALLOC.md"
TEST = re.compile(r"(tests/\w+/test_\w+\.py): (test_\w+)")
ROW = re.compile(r"^\| (\S+) \| (.*) \| (.*) \|$", re.MULTILINE)


def rows():
    return [row for row in ROW.findall(PAGE.read_text()) if row[0] not in ("name", "---")]


def public_names():
    """Functions and classes of tracemalloc, and the public attributes of its classes."""
    for name, value in vars(tracemalloc).items():
        if getattr(value, "__module__", None) not in ("tracemalloc", "_tracemalloc") \
                or name.startswith("_"):
            continue
        yield name
        if isinstance(value, type):
            for attribute in dir(value):
                if not attribute.startswith("_"):
                    yield f"{name}.{attribute}"


class Table(unittest.TestCase):
    def test_every_test_exists(self):
        found = TEST.findall(PAGE.read_text())
        self.assertGreater(len(found), 60)
        for path, test in found:
            self.assertTrue((ROOT / path).is_file(), path)
            self.assertRegex((ROOT / path).read_text(), rf"(?m)^    def {test}\(", path)

    def test_every_row_names_one_test_alone(self):
        self.assertGreater(len(rows()), 60)
        for name, rule, test in rows():
            self.assertTrue(TEST.fullmatch(test), f"{name}: {test}")
            self.assertGreater(len(rule), 3, name)

    def test_no_public_name_is_left_out(self):
        held = {name.strip("`") for name, _rule, _test in rows()}
        names = set(public_names())
        self.assertGreater(len(names), 30)
        self.assertEqual(names - held, set())


if __name__ == "__main__":
    unittest.main()
