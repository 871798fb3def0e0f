"""Writes down what the plugin defines: for gdb's start-up, and as the manual page.

    gdb -nx -batch -ex 'source FOLDER/tm-gdb.py' -ex 'source gdb-plugin/packaging/describe.py'

with TM_WORDS or TM_MANUAL in the environment, the file to be written, and TM_FOLDER,
where tm will be.  Runs inside gdb, in the build.  All of it comes from the declarations
of the commands, settings and functions; must never say anything of its own about one of them.
"""

import os
import pprint

import gdb
from tm import options, settings
from tm.commands import framework, functions, machine, window
from tm.version import VERSION

KINDS = {getattr(gdb, name): name for name in dir(gdb) if name.startswith("PARAM_")}


def commands():
    """(name, help, whether it is a prefix), a prefix before what is below it."""
    found = [("tm", framework.find("tm").__doc__, True)]
    found += [("tm " + name, command.__doc__, command.declaration.prefix)
              for name, command in framework.COMMANDS.items()]
    return sorted(found, key=lambda entry: entry[0].count(" "))


def setting(each):
    return {"name": each.name.split()[1], "kind": KINDS[each.kind], "choices": each.choices,
            "value": each.default, "range": each.range, "shown": each.shown,
            "set_doc": each.set_doc, "show_doc": each.show_doc, "doc": each.__doc__}


def words():
    """The module that tm_autoload imports."""
    described = {
        "COMMANDS": commands(),
        "SETTING_PREFIXES": [(name, kind.__doc__) for name, kind in
                             (("set tm", settings.SetTm), ("show tm", settings.ShowTm))],
        "SETTINGS": [setting(each) for each in settings.SETTINGS],
        "FUNCTIONS": [(kind.name, kind.__doc__) for kind in functions.FUNCTIONS],
        "MACHINE_COMMANDS": list(machine.NAMES),
        "LAYOUT": (window.NAME, window.LAYOUT),
    }
    lines = ['"""What the plugin defines, written by packaging/describe.py."""\n']
    lines += ["%s = %s\n" % (name, pprint.pformat(value)) for name, value in described.items()]
    return "\n".join(lines)


def write(variable, text_of):
    if os.environ.get(variable):
        with open(os.environ[variable], "w", encoding="ascii") as file:
            file.write(text_of())


# ---- the manual page, in the man macros of groff_man(7) ----------------------


def roff(text):
    """Text as it is, whatever it holds."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    text = text.replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
    return "\n".join("\\&" + line if line.startswith(".") else line
                     for line in text.split("\n"))


def tagged(tag, text):
    return ".TP\n.B %s\n%s" % (roff(tag).replace('"', '\\(dq'), text)


def prose(text):
    """Text that may be filled, unless it is a list: its lines stay lines."""
    return ".nf\n%s\n.fi" % roff(text) if " - " in text else roff(text)


def manual_command(declaration):
    parts = [roff(declaration.summary)]
    if declaration.details:
        parts += [".sp", prose(declaration.details.strip())]
    if not declaration.prefix:
        parts.append(".RS")
        parts += [tagged(argument.name, roff(argument.help)) for argument in declaration.arguments]
        parts += [tagged(option.usage, roff(option.help)) for option in declaration.all_options
                  if option not in (options.HELP, options.JSON)]
        parts.append(".RE")
    return tagged(options.usage(declaration), "\n".join(parts))


def manual():
    """The page."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "gdb-tm.1.in")) as file:
        text = file.read()
    values = {
        "VERSION": VERSION,
        "FOLDER": roff(os.environ.get("TM_FOLDER", "")),
        "COMMANDS": "\n".join(manual_command(command.declaration)
                              for command in framework.COMMANDS.values()),
        "SETTINGS": "\n".join(tagged("set " + each.name, roff(each.set_doc) + "\n.sp\n"
                                     + prose(each.__doc__)) for each in settings.SETTINGS),
        "FUNCTIONS": "\n".join(tagged(head, roff(text)) for head, text in
                               (kind.__doc__.split(": ", 1) for kind in functions.FUNCTIONS)),
        "MACHINE": "\n".join(".B %s" % roff("-tm-" + name) for name in machine.NAMES),
    }
    for name, value in values.items():
        text = text.replace("@%s@" % name, value)
    return text


write("TM_WORDS", words)
write("TM_MANUAL", manual)
