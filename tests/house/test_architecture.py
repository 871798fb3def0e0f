"""The arrows and must-nots of the tree: who may include, import and link what.

May use: the standard library, git, binutils.  Must never import the plugin.
"""
import ast
import pathlib
import re
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FREESTANDING = {"float.h", "limits.h", "stdalign.h", "stdarg.h", "stdatomic.h", "stdbool.h",
                "stddef.h", "stdint.h", "stdnoreturn.h", "iso646.h"}
# Files of the Python package that talk to the inferior; every other one is tested without gdb.
TALK_TO_GDB = ["tm/inferior.py", "tm/helper.py", "tm/inject.py", "tm/launch.py", "tm/domains.py",
               "tm/follow.py", "tm/cores.py", "tm/remote.py", "tm/doctor.py", "tm/settings.py",
               "tm/frames.py", "tm/running.py", "tm/restarts.py",
               "tm-gdb.py", "tm/commands/", "packaging/"]
LINES_AT_MOST = 600


def sources(folder, *suffixes):
    return sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in suffixes)


def includes(path):
    for match in re.finditer(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]',
                             path.read_text(), re.MULTILINE):
        yield match.group(2)


def imports(path):
    """Top-level names of the modules that a Python file imports, with its relative imports."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                yield node.module
                for alias in node.names:
                    yield f"{node.module}.{alias.name}"
            else:
                for alias in node.names:
                    yield "." * node.level + ".".join(filter(None, [node.module, alias.name]))


class Arrows(unittest.TestCase):
    def test_helper_includes_only_the_contract_and_freestanding_headers(self):
        own = {path.name for path in sources("helper", ".h", ".inc")}
        contract = {path.name for path in sources("include", ".h")}
        for path in sources("helper", ".c", ".h", ".S", ".inc"):
            if path.name.startswith("preload") and path.suffix == ".c":
                continue
            for name in includes(path):
                self.assertIn(pathlib.PurePath(name).name, own | contract | FREESTANDING,
                              f"{path.relative_to(ROOT)} includes {name}")

    def test_contract_includes_freestanding_headers_alone(self):
        contract = {path.name for path in sources("include", ".h")}
        for path in sources("include", ".h"):
            for name in includes(path):
                self.assertIn(name, FREESTANDING | contract, f"{path.name} includes {name}")

    def test_native_knows_neither_gdb_nor_the_helper(self):
        helper = {path.name for path in sources("helper", ".h")} - \
            {path.name for path in sources("gdb-plugin/native", ".h")}
        for path in sources("gdb-plugin/native", ".c", ".h"):
            for name in includes(path):
                self.assertNotIn(name, helper, f"{path.relative_to(ROOT)} includes {name}")
                self.assertNotIn("helper/", name, f"{path.relative_to(ROOT)} includes {name}")
                self.assertFalse(name.startswith("gdb"), f"{path.relative_to(ROOT)}: {name}")

    def test_no_c_file_is_included(self):
        for folder in ("include", "helper", "gdb-plugin", "tests"):
            for path in sources(folder, ".c", ".h"):
                for name in includes(path):
                    self.assertFalse(name.endswith(".c"), f"{path.relative_to(ROOT)}: {name}")

    def test_only_what_talks_to_the_inferior_imports_gdb(self):
        for path in sources("gdb-plugin", ".py"):
            name = str(path.relative_to(ROOT / "gdb-plugin"))
            if any(name == each or (each.endswith("/") and name.startswith(each))
                   for each in TALK_TO_GDB):
                continue
            for module in imports(path):
                self.assertNotEqual(module.split(".")[0], "gdb", f"{name} imports gdb")

    def test_nothing_imports_the_commands(self):
        for path in sources("gdb-plugin/tm", ".py"):
            name = str(path.relative_to(ROOT / "gdb-plugin"))
            if name.startswith("tm/commands/"):
                continue
            for module in imports(path):
                self.assertNotRegex(module, r"(^|\.)commands(\.|$)", f"{name} imports {module}")

    def test_package_uses_the_standard_library_alone(self):
        allowed = set(sys.stdlib_module_names) | {"gdb", "tm", "_tm", "tm_autoload", "tm_words"}
        for path in sources("gdb-plugin", ".py"):
            for module in imports(path):
                if not module.startswith("."):
                    self.assertIn(module.split(".")[0], allowed, path.relative_to(ROOT))


class Layout(unittest.TestCase):
    def test_layout_is_declared_once(self):
        """No struct of the layout, and no constant of it, is written down a second time."""
        text = (ROOT / "include" / "tm_layout.h").read_text()
        structs = set(re.findall(r"^struct (\w+) \{", text, re.MULTILINE))
        constants = set(re.findall(r"^#define (TM_\w+)\b(?!\()", text, re.MULTILINE))
        constants.discard("TM_LAYOUT_H")
        for folder in ("helper", "gdb-plugin"):
            for path in sources(folder, ".c", ".h"):
                text = path.read_text()
                again = structs & set(re.findall(r"^struct (\w+) \{", text, re.MULTILINE))
                again |= constants & set(re.findall(r"^#define (TM_\w+)\b", text, re.MULTILINE))
                self.assertFalse(again, f"{path.relative_to(ROOT)} declares {again} again")

    def test_python_does_not_unpack_by_hand(self):
        """Offsets come from the extension: Python names no struct format of the layout."""
        for path in sources("gdb-plugin/tm", ".py"):
            self.assertNotIn("0x31656c6261746d74", path.read_text().lower(), path.name)


class Files(unittest.TestCase):
    def tracked(self, *patterns):
        names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "--", *patterns],
                               cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.split("\n")
        return [ROOT / name for name in names if name and (ROOT / name).is_file()]

    def test_files_stay_small(self):
        for path in self.tracked("*.c", "*.h", "*.S", "*.py", "tests/run"):
            lines = path.read_text().count("\n")
            self.assertLessEqual(lines, LINES_AT_MOST, path.relative_to(ROOT))

    def test_files_say_what_they_are_for(self):
        for path in self.tracked("*.c", "*.h", "*.S", "*.py"):
            start = path.read_text().lstrip()
            if not start:
                continue
            comment = ("/*", "//", "#") if path.suffix != ".py" else ('"""', "#", 'r"""')
            self.assertTrue(start.startswith(comment),
                            f"{path.relative_to(ROOT)} does not begin with a comment")

    def test_nothing_is_left_open(self):
        words = "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"])
        for path in self.tracked("*.c", "*.h", "*.S", "*.py", "Makefile"):
            found = re.search(rf"\b({words})\b", path.read_text())
            self.assertIsNone(found, f"{path.relative_to(ROOT)}: {found and found.group()}")

    def test_no_blanket_exception_handlers(self):
        for path in self.tracked("*.py", "tests/run"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.ExceptHandler):
                    continue
                caught = [each.id for each in ast.walk(node.type) if isinstance(each, ast.Name)] \
                    if node.type else ["everything"]
                blanket = {"everything", "Exception", "BaseException"} & set(caught)
                self.assertFalse(blanket, f"{path.relative_to(ROOT)}:{node.lineno}")


class Helper(unittest.TestCase):
    def test_helper_is_freestanding(self):
        helper = ROOT / "build" / "tm-helper.so"
        check = subprocess.run([ROOT / "tests" / "house" / "freestanding", helper],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual((check.returncode, check.stdout), (0, ""))

    def test_no_page_is_writable_and_executable(self):
        out = subprocess.run(["readelf", "-W", "-l", ROOT / "build" / "tm-helper.so"],
                             stdout=subprocess.PIPE, text=True, check=True).stdout
        loads = re.findall(r"^\s+LOAD.*?(R|RW|R E|RWE)\s+0x\w+$", out, re.MULTILINE)
        self.assertTrue(loads)
        self.assertNotIn("RWE", loads)


if __name__ == "__main__":
    unittest.main()
