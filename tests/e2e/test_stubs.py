"""Code that nobody wrote is in no traceback; wrappers are not the place of an allocation.

May use gdbsession.  Must never import gdb: the tests see what a person sees.
"""
import os
import shutil
import subprocess
import tempfile
import unittest

from gdbsession import TestCase, build

FLAGS = "-O2 -g -mindirect-branch=thunk -fcf-protection=none"
# What allocated, oldest first, behind main().
CALLS = {"by_pointer": ["call_pointer", "allocate"],
         "by_thunk": ["call_thunk", "both::copy"],
         "by_ifunc": ["call_ifunc", "allocate_best"],
         "by_wrappers": ["call_wrappers", "g_malloc", "xmalloc"],
         "by_new": ["call_new"]}


class Stubs(TestCase):
    def start(self, *strip):
        program = build("stubs.cc", flags=FLAGS)
        listed = subprocess.run(["nm", "-C", program], check=True, text=True,
                                stdout=subprocess.PIPE).stdout
        for stub in ("__x86_indirect_thunk_", "covariant return thunk to both::copy()",
                     " i allocate_somehow"):
            self.assertIn(stub, listed)  # the compiler makes what this is about
        folder = self.enterContext(tempfile.TemporaryDirectory())
        copy = shutil.copy(program, os.path.join(folder, "stubs"))
        if strip:
            subprocess.run([*strip, copy], check=True)
        self.gdb = self.session(copy)
        for command in ("break checkpoint", "run", "tm start 20", "continue"):
            self.gdb.run(command)

    def functions(self, block):
        frames = self.gdb.json(f"tm traceback *(char **)&{block} -json")["frames"]
        names = [each["function"] for each in frames]
        return names[names.index("main") + 1:]

    def check_calls(self):
        for block, functions in CALLS.items():
            self.assertEqual(self.functions(block), functions)
        # libstdc++ has no debug info, or has: with it, inlined calls too.
        library = self.functions("by_library")
        self.assertEqual(library[0], "call_library")
        self.assertIn("std::__cxx11::basic_string<char, std::char_traits<char>, "
                      "std::allocator<char> >::_M_replace_aux", library)

    def test_with_debug_info(self):
        self.start()
        self.check_calls()

    def test_with_symbols_alone(self):
        self.start("strip", "--strip-debug")
        self.check_calls()

    def test_wrappers_are_skipped_when_asked_allocators_always(self):
        self.start()

        def of_size(size):
            return [each["function"] for each in
                    self.gdb.json("tm top function -json -limit unlimited")["statistics"]
                    if each["size"] == size]

        self.assertEqual((of_size(400), of_size(500)), (["xmalloc"], ["call_new"]))
        self.gdb.run("tm skip xmalloc g_malloc")
        self.assertEqual((of_size(400), of_size(500)), (["call_wrappers"], ["call_new"]))


if __name__ == "__main__":
    unittest.main()
