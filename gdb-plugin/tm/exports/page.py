"""A page for a browser in one file: its parts put together.

May use the standard library.  Must not import gdb.  The page may load nothing and
run nothing but its own script, whatever the names in it are: they are data in JSON,
and the policy in its head says so to the browser.
"""

import base64
import hashlib
import json
import os.path

from tm.version import VERSION

FOLDER = os.path.dirname(os.path.abspath(__file__))


def asset(name):
    """The text of a file beside this one."""
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        return file.read()


def script_of(*names):
    """One script of the assets, in a function of its own."""
    return '"use strict";\n(() => {\n%s})();\n' % "\n".join(map(asset, names))


def as_script(facts):
    """JSON that cannot end the element it stands in."""
    text = json.dumps(facts, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def assemble(template, style, script, facts, **texts):
    """The page as bytes: the asset `template` with its {{marks}} filled.

    style and script are texts, facts the document for the script; texts are
    further marks, which must be escaped where they hold names.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    parts = dict(texts, version=VERSION, style=style, script=script, data=as_script(facts),
                 policy="default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-%s'"
                 % digest)
    pieces = asset(template).split("{{")
    text = pieces[0]
    for piece in pieces[1:]:
        name, rest = piece.split("}}", 1)
        text += parts[name] + rest
    return text.encode("utf-8", "backslashreplace")
