"""A client of redis-server that checks every reply, byte for byte.

    service_client.py SOCKET

Keeps a copy of what the server must hold, over four connections in turn.  Each
line on standard input asks for `requests N wrong N pause MILLISECONDS`, the pause
being the longest time that one reply took since the line before; the end of the
input ends it.  May use the standard library only.
"""
import random
import select
import socket
import sys
import time

KEYS = 500


def command(*words):
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part)
                                              for part in parts)


def bulk(value):
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


class Client:
    def __init__(self, path):
        self.connections = []
        for number in range(4):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            connection.settimeout(60)
            self.connections.append(connection)
        self.values, self.counters, self.lists = {}, {}, {}
        self.requests = self.wrong = 0
        self.pause = 0.0

    def next_request(self):
        """A command and the reply it must have."""
        key, kind = random.randrange(KEYS), random.random()
        if kind < 0.35:
            value = random.randbytes(random.choice((3, 40, 700, 6000)))
            self.values[key] = value
            return command("SET", f"v{key}", value), b"+OK\r\n"
        if kind < 0.6:
            return command("GET", f"v{key}"), bulk(self.values.get(key))
        if kind < 0.7:
            known = self.values.pop(key, None) is not None
            return command("DEL", f"v{key}"), b":%d\r\n" % known
        if kind < 0.8:
            self.counters[key] = self.counters.get(key, 0) + 1
            return command("INCR", f"c{key}"), b":%d\r\n" % self.counters[key]
        held = self.lists.setdefault(key, [])
        if len(held) < 20:
            held.append(random.randbytes(random.randrange(1, 300)))
            return command("RPUSH", f"l{key}", held[-1]), b":%d\r\n" % len(held)
        return command("LPOP", f"l{key}"), bulk(held.pop(0))

    def make(self, connection):
        request, wanted = self.next_request()
        began = time.monotonic()
        connection.sendall(request)
        reply = b""
        while len(reply) < len(wanted):
            chunk = connection.recv(65536)
            if not chunk:
                break
            reply += chunk
        self.pause = max(self.pause, time.monotonic() - began)
        self.requests += 1
        self.wrong += reply != wanted

    def run(self):
        while True:
            for connection in self.connections:
                for each in range(25):
                    self.make(connection)
            if select.select([sys.stdin], [], [], 0)[0]:
                if not sys.stdin.readline():
                    return
                print(f"requests {self.requests} wrong {self.wrong} "
                      f"pause {self.pause * 1000:.1f}", flush=True)
                self.pause = 0.0


Client(sys.argv[1]).run()
