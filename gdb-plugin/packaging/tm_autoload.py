"""Makes `tm` known to a gdb that starts, and loads the plugin when it is first used.

May use: gdb, and tm_words, the list of what the plugin defines, which describe.py
wrote when tm was installed.  Must not import tm: starting gdb must stay as quick
as it was, and most sessions never use tm.
"""

import os
import sys

import gdb

import tm_words

HERE = os.path.dirname(os.path.abspath(__file__))


def load():
    """Load the plugin; what it defines takes the place of what is defined here."""
    if "tm.commands" not in sys.modules:
        gdb.execute("source " + os.path.join(HERE, "tm-gdb.py"))
    if "tm.commands" not in sys.modules:
        raise gdb.GdbError("tm could not be loaded.")
    return sys.modules["tm.commands"]


class Command(gdb.Command):
    """A command by its name and help; a prefix has its sub-commands below it."""

    def __init__(self, name, text, is_prefix):
        self.__doc__ = text
        self._name = name
        super().__init__(name, gdb.COMMAND_DATA, prefix=is_prefix)

    def invoke(self, text, from_tty):
        load().framework.find(self._name).invoke(text, from_tty)


class SubCommand(Command):
    """One that completes what follows it."""

    def complete(self, text, word):
        return load().framework.find(self._name).complete(text, word)


class SettingPrefix(gdb.Command):
    """`set tm` or `show tm`."""

    def __init__(self, name, text):
        self.__doc__ = text
        self._name = name
        super().__init__(name, gdb.COMMAND_DATA, prefix=True)

    def invoke(self, text, from_tty):
        load()
        try:
            gdb.execute("%s %s" % (self._name, text), from_tty)
        except gdb.error as error:
            raise gdb.GdbError(str(error)) from None


class Setting(gdb.Parameter):
    """A setting; the plugin takes its value over."""

    def __init__(self, described):
        self._described = described
        self.set_doc, self.show_doc = described["set_doc"], described["show_doc"]
        self.__doc__ = described["doc"]
        arguments = [getattr(gdb, described["kind"])]
        if described["choices"]:
            arguments.append(described["choices"])
        super().__init__("tm " + described["name"], gdb.COMMAND_DATA, *arguments)
        self.value = self.accepted = described["value"]

    def get_set_string(self):
        low, high = self._described["range"] or (None, None)
        if low is not None and not low <= self.value <= high:
            refused, self.value = self.value, self.accepted
            raise gdb.GdbError("tm %s must be a number from %d to %d, not %d."
                               % (self._described["name"], low, high, refused))
        self.accepted = 0 if self.value is None else self.value
        return ""

    def get_show_string(self, value):
        return self._described["shown"] % value


class Function(gdb.Function):
    """A convenience function."""

    def __init__(self, name, text):
        self.__doc__ = text
        self._name = name
        super().__init__(name)

    def invoke(self, *operands):
        return load().functions.find(self._name).invoke(*operands)


def define_machine_commands():
    if not hasattr(gdb, "MICommand"):
        return

    class MachineCommand(gdb.MICommand):
        def __init__(self, name):
            super().__init__("-tm-" + name)
            self._name = name

        def invoke(self, arguments):
            return load().machine.answer(self._name, arguments)

    for name in tm_words.MACHINE_COMMANDS:
        MachineCommand(name)


def define_layout():
    """`layout tm`, whose window is made by the plugin."""
    if hasattr(gdb, "register_window_type"):
        name, layout = tm_words.LAYOUT
        gdb.register_window_type(name, lambda window: load().window.make_window(window))
        try:
            gdb.execute("tui new-layout %s %s" % (name, layout), to_string=True)
        except gdb.error:
            return  # this gdb has no TUI


def define():
    for name, text, is_prefix in tm_words.COMMANDS:
        (Command if is_prefix else SubCommand)(name, text, is_prefix)
    for name, text in tm_words.SETTING_PREFIXES:
        SettingPrefix(name, text)
    for described in tm_words.SETTINGS:
        Setting(described)
    for name, text in tm_words.FUNCTIONS:
        Function(name, text)
    define_machine_commands()
    define_layout()


if "tm.commands" not in sys.modules:
    define()
