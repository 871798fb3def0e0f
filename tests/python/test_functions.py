"""The functions of the package `tm` mean what tracemalloc's mean.

The process is a pretended one: tests/e2e has real ones.  May use the standard
library, tm and _tm.  Must never need gdb.
"""

import contextlib
import subprocess
import sys
import tracemalloc
import types
import unittest
from unittest import mock

import tm


class PretendedProcess(types.ModuleType):
    """tm.process with a process that does as it is told."""

    def __init__(self):
        super().__init__("tm.process")
        self.there, self.limit, self.armed = True, None, None
        self.calls = []
        self.block = None

    def has_process(self):
        return self.there

    def is_tracing(self):
        return self.there and self.limit is not None

    def start(self, limit, sampling):
        self.limit = limit

    def arm(self, limit, sampling):
        self.armed = limit

    def stop(self):
        self.calls.append("stop")
        self.limit = self.armed = None

    def clear(self):
        self.calls.append("clear")

    def reset_peak(self):
        self.calls.append("reset_peak")

    def status(self):
        return {"traceback_limit": self.limit, "current": 100, "peak": 300, "armed": self.armed,
                "helper_memory": 4096 if self.limit else 0}

    def find_block(self, address):
        self.calls.append(address)
        return self.block

    def take_snapshot(self):
        return "a snapshot"


class Functions(unittest.TestCase):
    def setUp(self):
        self.process = PretendedProcess()
        for patch in (mock.patch.dict(sys.modules, {"tm.process": self.process}),
                      mock.patch.object(tm, "process", self.process, create=True)):
            patch.start()
            self.addCleanup(patch.stop)

    def test_start_and_stop(self):
        self.assertFalse(tm.is_tracing())
        self.assertEqual(tm.get_traceback_limit(), 1)
        tm.start()
        self.assertTrue(tm.is_tracing())
        self.assertEqual(tm.get_traceback_limit(), 1)
        tm.start(25)  # nothing happens: it is on already
        self.assertEqual(tm.get_traceback_limit(), 1)
        tm.stop()
        self.assertFalse(tm.is_tracing())
        tm.stop()
        self.assertEqual(self.process.calls, ["stop"])
        tm.start(25)
        self.assertEqual(tm.get_traceback_limit(), 25)

    def test_start_before_there_is_a_process(self):
        self.process.there = False
        tm.start(10)
        self.assertEqual(self.process.armed, 10)
        self.assertFalse(tm.is_tracing())
        tm.stop()
        self.assertIsNone(self.process.armed)

    def test_wrong_numbers_of_frames(self):
        for nframe in (0, -1, 10 ** 6):
            with self.assertRaisesRegex(ValueError, r"the number of frames must be in range \[1;"):
                tm.start(nframe)
        for nframe in ("10", None, 1.5):
            with self.assertRaises(TypeError) as ours:
                tm.start(nframe)
            with self.assertRaises(TypeError) as theirs:
                tracemalloc.start(nframe)
            self.assertEqual(str(ours.exception), str(theirs.exception))
        self.assertFalse(tm.is_tracing())

    def test_memory(self):
        self.assertEqual(tm.get_traced_memory(), (0, 0))
        self.assertEqual(tm.get_tracemalloc_memory(), 0)
        tm.start()
        self.assertEqual(tm.get_traced_memory(), (100, 300))
        self.assertEqual(tm.get_tracemalloc_memory(), 4096)

    def test_nothing_to_clear_is_no_error(self):
        tm.clear_traces()
        tm.reset_peak()
        self.assertEqual(self.process.calls, [])
        tm.start()
        tm.clear_traces()
        tm.reset_peak()
        self.assertEqual(self.process.calls, ["clear", "reset_peak"])

    def test_traceback_of_an_address(self):
        traceback = tm.Traceback((("a.c", 1),))
        self.assertIsNone(tm.get_object_traceback(0x1234))
        self.assertEqual(self.process.calls, [])
        tm.start()
        self.assertIsNone(tm.get_object_traceback(0x1234))
        self.process.block = tm.Block(0x1230, 8, 0, traceback)
        self.assertIs(tm.get_object_traceback(0x1234), traceback)
        self.assertEqual(self.process.calls, [0x1234, 0x1234])

    def test_what_stands_for_an_address(self):
        """An int, what can be one, and what lies somewhere, as gdb's values do."""
        class Pointer:
            address = 0x99

            def __index__(self):
                return 0x1234

        class Structure:
            def __init__(self, address):
                self.address = address

            def __index__(self):
                raise RuntimeError("Cannot convert value to long.")

        tm.start()
        for obj in (Pointer(), Structure(Pointer())):
            tm.get_object_traceback(obj)
        self.assertEqual(self.process.calls, [0x1234, 0x1234])
        with self.assertRaisesRegex(RuntimeError, "Cannot convert"):
            tm.get_object_traceback(Structure(None))
        for obj in ("0x1234", 1.5, None, object()):
            with self.assertRaises(TypeError):
                tm.get_object_traceback(obj)

    def test_snapshot(self):
        with self.assertRaises(RuntimeError) as ours:
            tm.take_snapshot()
        with contextlib.suppress(RuntimeError):
            tracemalloc.stop()
            tracemalloc.take_snapshot()
            self.fail("tracemalloc takes no snapshot when it is off")
        try:
            tracemalloc.take_snapshot()
        except RuntimeError as theirs:
            self.assertEqual(str(ours.exception), str(theirs))
        tm.start()
        self.assertEqual(tm.take_snapshot(), "a snapshot")


class Package(unittest.TestCase):
    def test_the_analysis_imports_without_gdb(self):
        code = ("import sys; sys.modules['gdb'] = None\n"
                "import tm as tracemalloc, tm.render, tm.documents, tm.dumpfile\n"
                "snapshot = tracemalloc.Snapshot.from_traces([(0, 5, (('a', 1),), 1)], 1)\n"
                "print(snapshot.statistics('lineno')[0])\n")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              env={"PYTHONPATH": ":".join(sys.path)}, check=False)
        self.assertEqual((done.stdout, done.stderr), ("a:1: size=5 B, count=1, average=5 B\n", ""))

    def test_all_names_are_there(self):
        for name in tm.__all__:
            self.assertTrue(hasattr(tm, name), name)


if __name__ == "__main__":
    unittest.main()
