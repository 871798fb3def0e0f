"""A headless Chromium, driven over its debugging pipe.

May use the standard library.  Must never need more than Debian's chromium.
"""
import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
KEYS = {"Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38,
        "ArrowRight": 39, "ArrowDown": 40}


class Browser:
    """One page; messages of its console are kept in `problems`."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="tm-browser-")
        read_there, self.write_end = os.pipe()
        self.read_end, write_there = os.pipe()
        # The pipe is on descriptors 3 and 4 there.
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", 'exec "$@" 3<&%d 4>&%d' % (read_there, write_there), "sh", CHROMIUM,
             "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe",
             "--user-data-dir=" + self.folder.name, "about:blank"],
            pass_fds=(read_there, write_there), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        os.close(read_there)
        os.close(write_there)
        self.pending = b""
        self.number = 0
        self.session = None
        self.problems = []
        self.loaded = False
        pages = [target for target in self.call("Target.getTargets")["targetInfos"]
                 if target["type"] == "page"]
        self.session = self.call("Target.attachToTarget", targetId=pages[0]["targetId"],
                                 flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.kill()
        self.process.wait()
        os.close(self.read_end)
        os.close(self.write_end)
        for _attempt in range(50):  # its children may still be writing there
            try:
                self.folder.cleanup()
                return
            except OSError:
                time.sleep(0.1)

    def _message(self, timeout=60):
        end = time.monotonic() + timeout
        while b"\0" not in self.pending:
            ready = select.select([self.read_end], [], [], max(0, end - time.monotonic()))[0]
            chunk = os.read(self.read_end, 1 << 20) if ready else b""
            if not chunk:
                raise AssertionError("the browser does not answer")
            self.pending += chunk
        message, self.pending = self.pending.split(b"\0", 1)
        message = json.loads(message)
        method, facts = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(facts["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning"):
            self.problems.append(facts["args"])
        elif method == "Log.entryAdded":
            self.problems.append(facts["entry"])
        elif method == "Network.requestWillBeSent" \
                and not facts["request"]["url"].startswith(("file:", "data:")):
            self.problems.append(facts["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self.problems.append(facts)
        elif method == "Page.loadEventFired":
            self.loaded = True
        return message

    def call(self, method, **arguments):
        self.number += 1
        request = {"id": self.number, "method": method, "params": arguments}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.write_end, json.dumps(request).encode() + b"\0")
        while True:
            message = self._message()
            if message.get("id") == self.number:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                return message["result"]

    def open(self, path, width=1280, height=900, scheme="light"):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)
        self.appearance(scheme)
        self.loaded = False
        self.call("Page.navigate", url="file://" + os.path.abspath(path))
        while not self.loaded:
            self._message()

    def appearance(self, scheme, media=""):
        self.call("Emulation.setEmulatedMedia", media=media,
                  features=[{"name": "prefers-color-scheme", "value": scheme}])

    def evaluate(self, script):
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True,
                           awaitPromise=True)
        if "exceptionDetails" in result:
            raise AssertionError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def text(self, selector):
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")

    def texts(self, selector):
        return self.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})]"
                             ".map(each => each.innerText)")

    def click(self, selector):
        """A real click in the middle of the element."""
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key):
        """A named key, or a letter."""
        facts = {"key": key, "windowsVirtualKeyCode": KEYS.get(key) or ord(key.upper())}
        if key == "Enter" or key not in KEYS:
            facts["text"] = "\r" if key == "Enter" else key
        self.call("Input.dispatchKeyEvent", type="keyDown", **facts)
        facts.pop("text", None)
        self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def screenshot(self, path, whole=True):
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def pdf(self, path):
        """What printing gives."""
        printed = self.call("Page.printToPDF", printBackground=False)
        with open(path, "wb") as file:
            file.write(base64.b64decode(printed["data"]))
