"""A service under load: redis-server is attached to, traced for 100 ms and left alone
again, over and over, while a client checks every reply.

`tests/run --full e2e/test_service` does 300 cycles.  The longest pause that the client
saw in each cycle goes to build/tests/e2e/service-pauses.txt.
"""
import pathlib
import re
import statistics
import tempfile
import time
import unittest

from gdbsession import FULL, LIMIT, PROGRAMS, ROOT, TestCase, executable_pages_differ

CYCLES = 300 if FULL else 5
WARM = 5  # cycles until the server's own memory is steady
SESSION = 50  # cycles of one gdb


class Service(TestCase):
    def resident(self, program):
        with open(f"/proc/{program.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1))

    def ask(self):
        before = len(self.client.output)
        self.client.write("\n")
        while b"\n" not in self.client.output[before:]:
            self.assertTrue(self.client.read(LIMIT), "the client has stopped")
        text = self.client.output[before:].decode()
        found = re.fullmatch(r"requests (\d+) wrong (\d+) pause ([\d.]+)\n", text)
        self.assertTrue(found, text)
        return int(found.group(1)), int(found.group(2)), float(found.group(3))

    def cycle(self, gdb, server):
        gdb.attach(server)
        self.assertStarted(gdb.run("tm start 10"), 10)
        gdb.run_until_interrupted(server, 0.1)
        self.assertRegex(gdb.run("tm snapshot cycle"), r"\ASnapshot cycle: \d+ blocks?")
        gdb.run("tm delete cycle")
        self.assertRegex(gdb.run("tm stop"), r"\ATracing stopped: \d+ functions restored.\Z")
        self.assertIn("Detaching", gdb.run("detach"))

    def test_every_reply_is_right(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="tm-test-")))
        path = folder / "redis"
        server = self.program("/usr/bin/redis-server", "--port", "0", "--unixsocket", path,
                              "--save", "", "--appendonly", "no", "--dir", folder)
        server.wait_for("ready to accept connections")
        client = ROOT / "tests" / "e2e" / "service_client.py"
        self.client = self.program("/usr/bin/python3", client, path)
        time.sleep(1)
        first, wrong, quiet = self.ask()
        pauses, sizes, last = [], [self.resident(server)], first
        for number in range(CYCLES):
            if number % SESSION == 0:
                gdb = self.session()
            self.cycle(gdb, server)
            requests, wrong, pause = self.ask()
            self.assertEqual(wrong, 0)
            self.assertGreater(requests, last, "the service stands still")
            last = requests
            pauses.append(pause)
            sizes.append(self.resident(server))
            if number % SESSION == SESSION - 1:
                gdb.close()
        self.report(pauses, sizes, last, quiet)
        self.assertEqual(executable_pages_differ(server.pid), [])
        if FULL:
            steady = statistics.median(sizes[WARM:WARM + 20])
            self.assertLess(abs(statistics.median(sizes[-20:]) - steady), 1024, sizes)

    def report(self, pauses, sizes, requests, quiet):
        lines = [f"{CYCLES} cycles, {requests} requests, none failed or lost.",
                 f"Longest pause in a cycle: median {statistics.median(pauses):.0f} ms, "
                 f"longest {max(pauses):.0f} ms; without gdb {quiet:.1f} ms.",
                 f"Resident memory of the server: {sizes[0]} KiB before, "
                 f"{sizes[min(WARM, len(sizes) - 1)]} KiB after {WARM} cycles, "
                 f"{sizes[-1]} KiB at the end.", "", "cycle pause/ms resident/KiB"]
        lines += [f"{number} {pause:.1f} {size}"
                  for number, (pause, size) in enumerate(zip(pauses, sizes[1:]), 1)]
        (PROGRAMS / "service-pauses.txt").write_text("\n".join(lines) + "\n")
        print("\n".join(lines[:3]))


if __name__ == "__main__":
    unittest.main()
