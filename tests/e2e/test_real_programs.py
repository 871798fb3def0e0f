"""Programs that nobody prepared: Python, sqlite, Debian's redis-server with its shared
jemalloc, and memcached built from its Debian source package.  No C program stands
beside this file: the programs are Debian's.
"""
import pathlib
import socket
import subprocess
import tempfile
import time
import unittest

import debian_source
from gdbsession import LIMIT, TestCase, executable_pages_differ


class RealPrograms(TestCase):
    def attach_and_start(self, program, frames=10):
        gdb = self.session()
        gdb.attach(program)
        self.assertStarted(gdb.run(f"tm start {frames}"), frames)
        return gdb

    def stop_and_detach(self, gdb, program):
        status = gdb.json("tm status -json")
        self.assertEqual(status["dropped"], 0)
        self.assertNotIn("\n", gdb.run("tm stop"))
        self.assertEqual(executable_pages_differ(program.pid), [])
        gdb.run("detach")

    def folder(self):
        return pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="tm-test-")))

    def wait_for_socket(self, path):
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            with socket.socket(socket.AF_UNIX) as connection:
                try:
                    connection.connect(str(path))
                    return
                except OSError:
                    time.sleep(0.05)
        raise AssertionError(f"nothing listens at {path}")

    def test_python(self):
        script = ("import sys; print('ready', flush=True); sys.stdin.readline(); "
                  "kept = [bytes(2000) for each in range(5000)]; "
                  "print('kept', flush=True); sys.stdin.readline(); print(len(kept))")
        program = self.program("/usr/bin/python3", "-I", "-c", script)
        program.wait_for("ready")
        gdb = self.attach_and_start(program)
        program.write("go\n")
        gdb.send("continue")
        program.wait_for("kept")
        program.process.send_signal(2)
        gdb.wait()
        top = gdb.json("tm top traceback -json -limit 5")
        kept = [each for each in top["statistics"] if each["count"] >= 5000]
        self.assertEqual([each["size"] // each["count"] for each in kept], [2033])
        frames = kept[0]["traceback"]
        named = [frame for frame in frames if frame["filename"] and frame["lineno"]]
        self.assertEqual(len(named), len(frames), "every frame has its line")
        for name in ("Objects/bytesobject.c", "Python/ceval.c"):
            self.assertTrue(any(frame["filename"].endswith(name) for frame in frames),
                            f"{name} is not in {frames}")
        self.stop_and_detach(gdb, program)
        program.write("\n")
        self.assertEqual(program.finish(), (0, "ready\nkept\n5000\n"))

    def test_sqlite(self):
        program = self.program("/usr/bin/sqlite3", "-batch", ":memory:")
        program.write(".shell echo ready\n")
        program.wait_for("ready")
        gdb = self.attach_and_start(program)
        gdb.send("continue")
        program.write("create table t(a integer primary key, b text);\n"
                      "with recursive n(i) as (select 1 union all select i + 1 from n "
                      "where i < 20000) insert into t select i, hex(randomblob(100)) from n;\n"
                      ".shell echo filled\n")
        program.wait_for("filled")
        program.process.send_signal(2)
        gdb.wait()
        top = gdb.json("tm top module -json")
        self.assertRegex(top["statistics"][0]["module"], r"libsqlite3\.so")
        self.assertGreater(top["statistics"][0]["size"], 20000 * 200)
        self.stop_and_detach(gdb, program)
        program.write("select count(*), sum(length(b)) from t;\n.quit\n")
        status, output = program.finish()
        self.assertEqual((status, output.split()), (0, ["ready", "filled", "20000|4000000"]))

    def test_redis_server(self):
        path = self.folder() / "redis"
        program = self.program("/usr/bin/redis-server", "--port", "0", "--unixsocket", path,
                               "--save", "", "--appendonly", "no", "--daemonize", "no",
                               "--dir", path.parent)
        self.wait_for_socket(path)
        gdb = self.attach_and_start(program)
        modules = {each["module"] for each in gdb.json("tm status -json")["redirected"]}
        self.assertTrue(any("libjemalloc.so" in module for module in modules), modules)
        gdb.send("continue")
        load = subprocess.run(["redis-benchmark", "-s", str(path), "-q", "-n", "20000", "-r",
                               "100000", "-d", "100", "-t", "set,lpush,hset"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(load.returncode, 0, load.stdout)
        self.assertNotIn("rror", load.stdout)
        program.process.send_signal(2)
        gdb.wait()
        top = gdb.json("tm top traceback -json -limit 3")
        self.assertGreater(top["total_count"], 40000)
        largest = top["statistics"][0]["traceback"]
        self.assertGreaterEqual(len(largest), 5)
        self.assertRegex(largest[0]["module"], "redis")
        self.stop_and_detach(gdb, program)
        answer = subprocess.run(["redis-cli", "-s", str(path), "dbsize"], text=True,
                                stdout=subprocess.PIPE).stdout
        self.assertGreater(int(answer.split()[-1]), 10000)
        subprocess.run(["redis-cli", "-s", str(path), "shutdown", "nosave"], check=True)
        self.assertEqual(program.finish()[0], 0)

    def test_memcached_from_its_source_package(self):
        why = debian_source.why_not("memcached")
        if why:
            self.skipTest(why)
        path = self.folder() / "memcached"
        program = self.program(debian_source.memcached(), "-s", path, "-m", "64", "-t", "2",
                               "-u", "root")
        self.wait_for_socket(path)
        gdb = self.attach_and_start(program)
        gdb.send("continue")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.settimeout(LIMIT)
            for number in range(20000):
                connection.sendall(b"set key%d 0 0 500\r\n%b\r\n" % (number, b"v" * 500))
                answer = connection.recv(100)
                self.assertEqual(answer, b"STORED\r\n")
            program.process.send_signal(2)
            gdb.wait()
            top = gdb.json("tm top lineno -json -limit unlimited")
            named = sum(each["size"] for each in top["statistics"]
                        if each["filename"] and each["lineno"])
            self.assertGreater(top["total_size"], 20000 * 500)
            print(f"memcached: {named} of {top['total_size']} bytes have file and line")
            self.assertGreaterEqual(named / top["total_size"], 0.95)
            self.assertRegex(top["statistics"][0]["filename"], r"slabs\.c$")
            self.stop_and_detach(gdb, program)
            connection.sendall(b"get key19999\r\n")
            answer = b""
            while not answer.endswith(b"END\r\n"):
                answer += connection.recv(1000)
            self.assertEqual(answer, b"VALUE key19999 0 500\r\n" + b"v" * 500 + b"\r\nEND\r\n")


if __name__ == "__main__":
    unittest.main()
