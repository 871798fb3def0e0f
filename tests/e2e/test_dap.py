"""tm in the REPL of an editor: the evaluate request of the Debug Adapter Protocol.

gdb speaks it from version 14 on.  Older ones are asked in the way its adapter asks:
lines come out of another thread, and their text is caught.  May use gdbsession.
Must never import gdb outside of the script it hands to gdb.
"""
import json
import os
import queue
import subprocess
import tempfile
import threading
import unittest

from gdbsession import CALM, PLUGIN, ROOT, TestCase, build

NO_DAP = subprocess.run(["/usr/bin/gdb", "-nx", "-q", "-i=dap"], stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                        timeout=60).stdout
TIMEOUT = 60


class Adapter:
    """A client of `gdb -i=dap`: requests, and the messages that come of themselves."""

    def __init__(self, home):
        command = ["/usr/bin/gdb", "-nx", "-q", "-i=dap"]
        for setting in CALM:
            command += ["-iex", setting]
        environment = dict(os.environ, LC_ALL="C.UTF-8", TERM="dumb", HOME=home)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=environment, cwd=ROOT)
        self.messages = queue.Queue()
        self.events = []
        self.responses = {}
        self.last = 0
        threading.Thread(target=self.receive, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()

    def receive(self):
        with self.process.stdout as stream:
            length = 0
            for line in iter(stream.readline, b""):
                name, _colon, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
                elif not line.strip() and length:
                    self.messages.put(json.loads(stream.read(length)))
                    length = 0
        self.messages.put(None)

    def send(self, command, **arguments):
        """Sends a request; returns its number."""
        self.last += 1
        text = json.dumps({"seq": self.last, "type": "request", "command": command,
                           "arguments": arguments}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
        self.process.stdin.flush()
        return self.last

    def until(self, there):
        """Takes messages until there() is."""
        while not there():
            message = self.messages.get(timeout=TIMEOUT)
            if message is None:
                raise AssertionError("gdb ended")
            if message["type"] == "response":
                self.responses[message["request_seq"]] = message
            elif message["type"] == "event":
                self.events.append(message)

    def event(self, name):
        """Waits for an event, and takes it and what was before it."""
        self.until(lambda: any(event["event"] == name for event in self.events))
        while self.events.pop(0)["event"] != name:
            pass

    def request(self, command, **arguments):
        number = self.send(command, **arguments)
        self.until(lambda: number in self.responses)
        return self.responses.pop(number)

    def repl(self, line):
        """What the line prints; of one that fails, its error."""
        answer = self.request("evaluate", expression=line, context="repl")
        return answer["body"]["result"] if answer["success"] else answer["message"]


class Session(TestCase):
    def check_session(self, run, go_on):
        """The same lines, however they are asked for."""
        self.assertRegex(run("tm start 5"), r"\ATracing 5 frames: .* ms\)\.\n?\Z")
        self.assertRegex(run("tm start 5"), "Already tracing, with a limit of 5 frames")
        go_on()
        self.assertRegex(run("tm snapshot before"),
                         r"\ASnapshot before: 21 blocks, 20\.5 KiB, 2 tracebacks")
        go_on()
        self.assertRegex(run("tm top -limit 1"),
                         r"\A\[ Top 1 \]\n[^\x1b]*reports\.c:20: size=39\.1")
        self.assertRegex(run("tm top -limit 1"), r"\A\[ Top 1 \]")
        self.assertRegex(run("tm diff before"), r"count=40 \(\+20\)")
        self.assertEqual(json.loads(run("tm status -json"))["blocks"], 41)
        self.assertRegex(run("tm traceback leaks[3] -limit 1"), r"return malloc\(size\)")
        self.assertRegex(run("tm nosuch"), 'Undefined tm command: "nosuch"')
        self.assertRegex(run("print $_tm_count()"), " = 41")
        self.assertRegex(run("help tm top"), r"\AShow which lines")
        self.assertRegex(run("tm stop"), r"\ATracing stopped: ")

    @unittest.skipIf("unrecognized" in NO_DAP, "this gdb is older than 14 and has no DAP")
    def test_adapter(self):
        program = build("tests/e2e/reports.c")
        home = self.enterContext(tempfile.TemporaryDirectory())
        with Adapter(home) as client:
            self.assertTrue(client.request("initialize", adapterID="tm")["success"])
            client.event("initialized")
            client.repl(f"source {PLUGIN}")
            client.request("setFunctionBreakpoints", breakpoints=[{"name": "checkpoint"}])
            client.send("launch", program=program)
            client.send("configurationDone")
            client.event("stopped")

            def go_on():
                client.send("continue", threadId=1)
                client.event("stopped")

            def run(line):
                text = client.repl(line)
                self.assertNotIn("stopped", [event["event"] for event in client.events], line)
                return text

            self.check_session(run, go_on)

    def test_lines_from_another_thread(self):
        program = build("tests/e2e/reports.c")
        gdb = self.session(program)
        gdb.run("break checkpoint")
        gdb.run("run")
        gdb.python(ASK)

        def run(line):
            text = gdb.run(f"python ask({line!r})")
            while not text:  # the event loop comes to it after the prompt
                text = gdb.run("echo")
            return json.loads(text)

        self.check_session(run, lambda: gdb.run("continue"))


# As gdb's adapter does it: a line is posted to gdb's own thread, and its text comes back.
ASK = """
import json, threading
import gdb

def ask(line):
    def execute():
        try:
            text = gdb.execute(line, from_tty=True, to_string=True)
        except gdb.error as error:
            text = str(error)
        gdb.write(json.dumps(text))
    threading.Thread(target=gdb.post_event, args=(execute,)).start()
"""


if __name__ == "__main__":
    unittest.main()
