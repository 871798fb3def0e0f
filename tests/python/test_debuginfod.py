"""_tm.Symbolizer and debuginfod: asked only when it may, its cache serves alone, Ctrl-C ends it.

May use: _tm, gcc, binutils, a server of its own on 127.0.0.1, unittest.  Must never
ask any other server.
"""
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import unittest
from unittest import mock

from test_symbolizer import BIAS, WithProgram

import _tm


class Debuginfod(WithProgram):
    def setUp(self):
        super().setUp()
        self.where = self.address()
        self.path = f"/buildid/{self.build_id().hex()}/debuginfo"
        self.served = self.folder / "served" / self.path[1:]
        self.split(self.served)
        self.run_tool("strip", self.program)
        self.log = self.folder / "log"
        self.use_server(self.start_server())
        os.environ["DEBUGINFOD_CACHE_PATH"] = str(self.folder / "cache")
        self.addCleanup(os.environ.pop, "DEBUGINFOD_CACHE_PATH")

    def use_server(self, port):
        os.environ["DEBUGINFOD_URLS"] = f"http://127.0.0.1:{port}"
        self.addCleanup(os.environ.pop, "DEBUGINFOD_URLS", None)

    def start_server(self):
        """A server of the files in `served`; its port."""
        with open(self.log, "w") as log:
            server = subprocess.Popen(
                [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0",
                 "--directory", str(self.folder / "served")],
                stdout=subprocess.PIPE, stderr=log, text=True)
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        return re.search(r"port (\d+)", server.stdout.readline())[1]

    def asked(self):
        return re.findall(r'"GET (\S+) HTTP', self.log.read_text())

    def resolve(self, **options):
        symbolizer = _tm.Symbolizer(debug_directories=[str(self.debug)], **options)
        symbolizer.add_module(str(self.program), BIAS, BIAS + 0x100000, BIAS)
        return self.function_and_line(symbolizer, self.where)

    def test_nobody_is_asked_unless_it_is_wanted(self):
        self.assertEqual(self.resolve(), (None, 0, None))
        self.assertEqual(self.asked(), [])

    def test_file_is_fetched_once(self):
        for _ in range(2):
            self.assertEqual(self.resolve(debuginfod=True), ("outer", 4, "source.c"))
        self.assertEqual(self.asked(), [self.path])

    def test_cache_serves_without_the_server(self):
        self.resolve(debuginfod=True)
        self.use_server(1)
        self.assertEqual(self.resolve(debuginfod=True), ("outer", 4, "source.c"))

    def test_server_without_the_file(self):
        self.served.unlink()
        self.assertEqual(self.resolve(debuginfod=True), (None, 0, None))
        self.assertEqual(self.asked(), [self.path])

    def test_file_of_another_build_is_not_used(self):
        stripped = self.program.read_bytes()
        self.compile("-O2")
        self.split(self.served)
        self.program.write_bytes(stripped)
        self.assertEqual(self.resolve(debuginfod=True), (None, 0, None))

    def test_local_files_come_first(self):
        name = self.build_id().hex()
        local = self.debug / ".build-id" / name[:2] / f"{name[2:]}.debug"
        local.parent.mkdir(parents=True)
        self.served.rename(local)
        self.assertEqual(self.resolve(debuginfod=True), ("outer", 4, "source.c"))
        self.assertEqual(self.asked(), [])

    def test_interrupt_ends_it_and_leaves_all_as_it_was(self):
        silent = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(silent.close)
        port = os.environ["DEBUGINFOD_URLS"].rpartition(":")[2]
        self.use_server(silent.getsockname()[1])
        symbolizer = _tm.Symbolizer(debug_directories=[str(self.debug)], debuginfod=True)
        symbolizer.add_module(str(self.program), BIAS, BIAS + 0x100000, BIAS)
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        # Who does not heed the signal waits for longer than the runner does.
        with mock.patch.dict(os.environ, DEBUGINFOD_TIMEOUT="100000"), \
                self.assertRaises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            symbolizer.resolve([self.where])
        self.use_server(port)
        # The library keeps in its cache that it got nothing, for ten minutes.
        os.environ["DEBUGINFOD_CACHE_PATH"] = str(self.folder / "another-cache")
        self.assertEqual(self.function_and_line(symbolizer, self.where), ("outer", 4, "source.c"))
        self.assertEqual(symbolizer.complaints(), [])

    def test_download_is_told_and_ends_when_the_listener_wants(self):
        """The server sends half of the file, and no more."""
        content, told, ended = self.served.read_bytes(), [], False
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        good = os.environ["DEBUGINFOD_URLS"].rpartition(":")[2]

        def serve():
            connection = server.accept()[0]
            self.addCleanup(connection.close)
            connection.recv(65536)
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content)
                               + content[:len(content) // 2])

        def tell(*call):
            told.append(call)
            if call[0] == "fetching" and call[2] and not ended:
                raise InterruptedError

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        self.use_server(server.getsockname()[1])
        symbolizer = _tm.Symbolizer(debug_directories=[str(self.debug)], debuginfod=True,
                                    tell=tell)
        symbolizer.add_module(str(self.program), BIAS, BIAS + 0x100000, BIAS)
        self.assertRaises(InterruptedError, symbolizer.resolve, [self.where])
        thread.join()
        self.assertEqual(told[-1], ("fetching", str(self.program), len(content) // 2,
                                    len(content)))
        self.use_server(good)
        os.environ["DEBUGINFOD_CACHE_PATH"] = str(self.folder / "another-cache")
        ended = True
        self.assertEqual(self.function_and_line(symbolizer, self.where), ("outer", 4, "source.c"))


if __name__ == "__main__":
    unittest.main()
