"""Injection at random instants: somewhere in the allocator, the loader, a signal's
handler or a system call, some single steps further; then on, a snapshot, and a stop,
each at another random instant.  The program never notices.

`tests/run --full e2e/test_instants` does 2,000 injections.
"""
import random
import tempfile
import unittest

from gdbsession import FULL, TestCase, build, executable_pages_differ

ROUNDS = 670 if FULL else 20
PROCESSES = 4 if FULL else 1

PLACES = {
    "heap": "malloc free realloc calloc _int_malloc _int_free _int_realloc sysmalloc "
            "unlink_chunk.isra.0 tcache_put mremap_chunk munmap_chunk mmap munmap "
            "__memset_avx2_unaligned_erms arena_get2.part.0 systrim.isra.0",
    "loader": "malloc free calloc _dl_open dl_open_worker dl_open_worker_begin _dl_map_object "
              "_dl_map_object_from_fd _dl_map_object_deps _dl_relocate_object _dl_close_worker "
              "_dl_debug_state _dl_unmap _dl_init _dl_fini _dl_lookup_symbol_x _dl_catch_exception "
              "mmap munmap mprotect open64 __tls_get_addr _dl_sort_maps _dl_fixup",
    "signals": "malloc free on_alarm read write __restore_rt",
}

ROUND = """
import os, random, re, subprocess, gdb
chooser = random.Random({seed})
places = {places!r}.split()
pid = gdb.selected_inferior().pid
bad, refused, where = [], 0, ""

def say(line):
    try:
        return gdb.execute(line, to_string=True).strip()
    except gdb.error as error:
        return str(error)

def resume(seconds):
    interrupter = subprocess.Popen(["/usr/bin/python3", "-Sc", "import os, sys, time; "
                                    "time.sleep(float(sys.argv[1])); "
                                    "os.kill(int(sys.argv[2]), 2)", str(seconds), str(pid)])
    text = say("continue")
    interrupter.kill()
    interrupter.wait()
    return text

def go():
    # To a random instant: a function's call, or whenever, and a few steps further.
    global where
    if chooser.random() < 0.2:
        text = resume(chooser.random() * 0.004)
        where = "interrupted"
    else:
        place = chooser.choice(places)
        stop = gdb.Breakpoint(place if place != "__restore_rt" else "*&__restore_rt",
                              internal=True, temporary=True)
        stop.silent = True
        if stop.pending:
            stop.delete()
            return go()
        text = resume(0.3)  # unless it comes there before
        where = place
        if stop.is_valid():
            stop.delete()
            where = "interrupted"
    steps = int(chooser.random() ** 2 * 60)
    if steps:
        text = say(f"stepi {{steps}}")
    where += f"+{{steps}}"
    if "SIGSEGV" in text or "exited" in text or "SIGABRT" in text or "SIGTRAP" in text:
        bad.append(where + ": " + text)

def check(line, pattern):
    text = say(line)
    if not re.match(pattern, text):
        bad.append(f"{{line}} at {{where}}: {{text}}")

for number in range({rounds}):
    go()
    chosen = chooser.choice(("", " -sample 4KiB", " -sample 4KiB -min-size 100"))
    check("tm start 10" + chosen, r"Tracing 10 frames[^:]*: \\d+ functions")
    go()
    check("tm snapshot s", r"Snapshot s: \\d+ blocks?, |.*exists")
    gdb.execute("tm delete s", to_string=True)
    if chooser.random() < 0.3:
        go()
        check("tm clear", "Traces of ")
    go()
    check("tm stop", r"Tracing stopped: \\d+ functions? restored")
    if chooser.random() < 0.2:
        check("tm unload", r"Helper unloaded|Thread \\d+ stands in the helper")
    if bad:
        break
print("rounds", number + 1, "bad", bad)
"""


class Instants(TestCase):
    def inject(self, mode):
        binary = build("instants.c", libs="-ldl")
        for number in range(PROCESSES):
            seed = random.randrange(1 << 30) if FULL else 12345
            with self.subTest(seed=seed), tempfile.NamedTemporaryFile("r") as output:
                gdb = self.session(binary)
                gdb.run("handle SIGALRM nostop noprint pass")
                gdb.run(f"break {'churn' if mode == 'heap' else mode}")
                self.assertAtBreakpoint(gdb.run(f"run {mode} >{output.name}"))
                gdb.run("delete")
                pid = gdb.inferior_pid()
                rounds = ROUNDS // PROCESSES
                script = ROUND.format(seed=seed, places=PLACES[mode], rounds=rounds)
                text = gdb.python(script, timeout=600)
                self.assertIn(f"rounds {rounds} bad []", text)
                self.assertEqual(executable_pages_differ(pid), [])
                gdb.run("set var enough = 1")
                self.assertIn("exited with code 052", gdb.run("continue"))
                self.assertEqual(output.read(), f"{mode}: 0 wrong\n")
                gdb.close()

    def test_allocator(self):
        self.inject("heap")

    def test_loader(self):
        self.inject("loader")

    def test_signal_handlers_and_system_calls(self):
        self.inject("signals")


if __name__ == "__main__":
    unittest.main()
