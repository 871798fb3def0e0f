"""make install: a plain gdb then knows tm, loads it at its first use, and uninstall
takes away all of it.

The tree is installed into a scratch root, whose folders are laid over those of the
system in a mount namespace of its own.  May use gdbsession.  Must never import gdb.
"""
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from gdbsession import CALM, ROOT, batch, build

PREFIX = "/usr/local"
FILES = ["/etc/gdb/gdbinit.d/tm.py", "/usr/local/include/tm.h", "/usr/local/include/tm_layout.h",
         "/usr/local/lib/tm/", "/usr/local/share/man/man1/gdb-tm.1"]
LOADED = "python print(sorted(n for n in __import__('sys').modules if n.lstrip('_')[:2] == 'tm'))"


def make(*words):
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("MAKEFLAGS", "MAKELEVEL", "DESTDIR", "PREFIX")}
    done = subprocess.run(["make", "-s", *words], cwd=ROOT, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise AssertionError(f"make {' '.join(words)}:\n{done.stdout}")
    return done.stdout


def all_commands():
    """Names of every sub-command, those of `tm filter` and the like included."""
    names = re.findall(r"(?m)^tm (\S+) --", batch("tm")[1])
    below = batch(*("tm " + name for name in names if name in ("filter", "domain")))[1]
    return names + re.findall(r"(?m)^tm (\S+ \S+) --", below)


class Install(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.home = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.told = make("install", f"DESTDIR={cls.root}", f"PREFIX={PREFIX}",
                        "GDBINIT_DIR=/etc/gdb/gdbinit.d")

    def setUp(self):
        if subprocess.run(["unshare", "-rm", "true"], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("this kernel lets this user have no mount namespace (unshare -rm)")

    def gdb(self, *commands, options=("-batch",), arguments=(), typed=None):
        """What a plain gdb prints in the root where tm is installed."""
        words = ["/usr/bin/gdb", "-q", *options]
        for setting in CALM:
            words += ["-iex", setting]
        for line in commands:
            words += ["-ex", line]
        script = (f'mount --bind "{self.root}{PREFIX}" {PREFIX} && '
                  f'mount --bind "{self.root}/etc/gdb/gdbinit.d" /etc/gdb/gdbinit.d && '
                  'exec "$@"')
        done = subprocess.run(["unshare", "-rm", "sh", "-c", script, "sh", *words, *arguments],
                              input=typed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, cwd=ROOT, timeout=120,
                              env=dict(os.environ, LC_ALL="C.UTF-8", TERM="dumb", HOME=self.home))
        return done.stdout

    def test_starting_gdb_loads_nothing(self):
        self.assertEqual(self.gdb(LOADED), "['tm_autoload', 'tm_words']\n")
        # Help, names and settings are there all the same.
        self.assertEqual(self.gdb("help tm top", LOADED).splitlines()[-1],
                         "['tm_autoload', 'tm_words']")
        lines = ["help tm", "help tm top", "help tm filter", "help tm filter add",
                 "help set tm frames", "help show tm", "help function _tm_size",
                 "show tm frames", "complete tm sn", "complete tm filter ",
                 "complete set tm filename ", "complete set tm f"]
        self.assertEqual(self.gdb(*lines), batch(*lines)[1])

    def test_the_first_use_loads_it(self):
        lines = ["tm", "tm status -json", "tm filter lst", "complete tm top -cumu", "show tm",
                 "set tm nosuch 1", "output $_tm_size(1, 2)"]
        expected = batch(*itertools.chain(*((line, "echo ##\\n") for line in lines)))[1]
        for line, text in zip(lines, expected.split("##\n")):
            self.assertEqual(self.gdb(line), text, line)

    def test_a_gdb_without_gdbinit_d_finds_it_in_its_data_directory(self):
        data = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()), "gdb")
        shutil.copytree("/usr/share/gdb/python", data / "python")
        shutil.copy(self.root / "etc/gdb/gdbinit.d/tm.py", data / "python/gdb/command/")
        text = self.gdb("help tm stop", LOADED, "tm status",
                        options=["-nx", "-batch", f"--data-directory={data}"])
        self.assertRegex(text, r"(?s)\AStop tracing: .*\n\['tm_autoload', 'tm_words'\]\n"
                         r"Not tracing: there is no process\.\n\Z")

    def test_settings_are_taken_over(self):
        text = self.gdb("set tm frames 25", "set tm limit unlimited", "set tm inline off",
                        "set tm filename basename", "set tm frames 1001", "tm skip", "show tm")
        self.assertIn("tm frames must be a number from 1 to 1000, not 1001.", text)
        for words in ("a traceback keeps is 25.", "tm shows is unlimited.",
                      "frames of their own is off.", 'files as "basename".'):
            self.assertIn(words, text)

    def test_a_session(self):
        text = self.gdb("break checkpoint", "run", "tm start 10", "continue", "tm top -limit 1",
                        "tm top -limit 1", "tm snapshot", "tm diff 1",
                        arguments=[build("tests/e2e/reports.c")])
        self.assertRegex(text, r"Tracing 10 frames: .*\n(.*\n)*\[ Top 1 \]\n.*size=19\.5 KiB")
        self.assertIn("\nSnapshot 1: 21 blocks, 20.5 KiB", text)

    def test_machine_commands(self):
        answer = self.gdb(options=["-i=mi"], typed="-tm-status\n-tm-status\n-gdb-exit\n")
        self.assertEqual(answer.count('^done,command="status",tracing="0"'), 2, answer)

    def test_an_older_import_of_the_library(self):
        self.assertEqual(self.gdb("python import tm", "python print(tm.is_tracing())"), "False\n")

    def test_files_and_uninstall(self):
        self.assertIn("/etc/gdb/gdbinit.d/tm.py makes every gdb know tm.", self.told)
        found = ["/" + str(path.relative_to(self.root)) for path in self.root.rglob("*")
                 if path.is_file()]
        for name in found:
            self.assertTrue(name in FILES or name.startswith(FILES[3]), name)
        self.assertLessEqual(set(FILES) - {FILES[3]}, set(found))
        for path in self.root.rglob("*.py"):
            self.assertNotIn(str(self.root), path.read_text(), path)
        with tempfile.TemporaryDirectory() as again:
            words = [f"DESTDIR={again}", "PREFIX=/opt/tm", "GDBINIT_DIR="]
            self.assertIn("source /opt/tm/lib/tm/tm-gdb.py", make("install", *words))
            self.assertFalse(pathlib.Path(again, "etc").exists())
            make("uninstall", *words)
            self.assertEqual([path for path in pathlib.Path(again).rglob("*")
                              if path.is_file()], [])

    def test_the_manual_page_names_everything(self):
        page = self.root / "usr/local/share/man/man1/gdb-tm.1"
        text = page.read_text().replace("\\-", "-").replace("\\(dq", '"')
        self.assertNotIn("@", text)
        usages = re.findall(r"(?m)^Usage: ((?:.+\n)(?: +.+\n)*)", "\n".join(
            batch(*("help tm " + name for name in all_commands()))[1].split("\n\n")))
        self.assertGreater(len(usages), 20)
        for usage in usages:
            self.assertIn("\n.B " + " ".join(usage.split()) + "\n", text)
        for name in re.findall(r"(?m)^(?:set tm|function) (\S+) --",
                               batch("help set tm", "help function")[1]):
            if not name.startswith("_") or (name.startswith("_tm") and "armed" not in name):
                self.assertRegex(text, rf"(?m)^\.B (set tm |\$){name}( \(.*\))?$")

    def test_the_manual_page_is_without_warnings(self):
        page = self.root / "usr/local/share/man/man1/gdb-tm.1"
        checks = [words for words in (["groff", "-man", "-ww", "-z", "-Tutf8"],
                                      ["mandoc", "-Tlint", "-Wwarning"])
                  if shutil.which(words[0])]
        if not checks:
            self.skipTest("neither groff nor mandoc is installed (apt-get install groff-base)")
        for words in checks:
            done = subprocess.run([*words, str(page)], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)
            self.assertEqual((done.returncode, done.stdout), (0, ""))


if __name__ == "__main__":
    unittest.main()
