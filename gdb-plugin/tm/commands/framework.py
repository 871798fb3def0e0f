"""From a declaration to a gdb command: parsing, preconditions, help, errors,
completion and RET in one place for all commands.

May use: gdb, tm.options, tm.process.  Must never catch more than the errors
that are the user's to mend: a bug keeps its traceback.
"""

import os
from typing import Any, Callable, Dict, List, Optional, Tuple, Type

import gdb

import _tm
from tm import frames, inferior, options, process
from tm.commands import style
from tm.commands.history import last_history_entry
from tm.commands.output import plural, warn
from tm.commands.terminal import progress_shown
from tm.errors import TmError
from tm.options import Declaration, Parsed
from tm.snapshots import registry

COMMANDS: Dict[str, "TmCommand"] = {}  # by name, in the order of the help


# ---- expressions -----------------------------------------------------------

INTEGER_CODES = {gdb.TYPE_CODE_INT, gdb.TYPE_CODE_ENUM, gdb.TYPE_CODE_BOOL, gdb.TYPE_CODE_CHAR,
                 gdb.TYPE_CODE_PTR}
REFERENCE_CODES = {gdb.TYPE_CODE_REF, gdb.TYPE_CODE_RVALUE_REF}


def integer_of(value: gdb.Value) -> int:
    """A value as an integer; of an array or a function its address."""
    if value.type.code in REFERENCE_CODES:
        value = value.referenced_value()
    code = value.type.strip_typedefs().code
    if code in INTEGER_CODES:
        return int(value)
    if code in (gdb.TYPE_CODE_ARRAY, gdb.TYPE_CODE_FUNC) and value.address is not None:
        return int(value.address)
    raise TmError("a value of type %s is no integer" % value.type)


def evaluate(text: str) -> int:
    """A debugger expression, in the selected frame, as an integer."""
    try:
        return integer_of(gdb.parse_and_eval(text))
    except gdb.error as error:
        raise TmError(first_line(str(error))) from None


def first_line(text: str) -> str:
    return text.strip().split("\n")[0] if text.strip() else "no reason given"


def evaluate_address(text: str) -> int:
    """The address an expression gives, or one line that says why it gives none."""
    try:
        return options.parse_integer(text, evaluate) & 0xffffffffffffffff
    except TmError as error:
        raise TmError('Cannot evaluate "%s": %s.' % (text, str(error).rstrip("."))) from None


# ---- preconditions ---------------------------------------------------------

def check_stopped(hint: str = "") -> None:
    """The process must stand still: its memory is read as one picture."""
    threads = gdb.selected_inferior().threads()
    running = sum(thread.is_running() for thread in threads)
    if 0 < running < len(threads):
        raise TmError('%s of the process still %s: stop all of them first, with "interrupt -a"%s.'
                      % (plural(running, "thread"), "runs" if running == 1 else "run", hint))
    if running:
        raise TmError('The process is running: stop it first, with "interrupt -a" or Ctrl-C%s.'
                      % hint)


def has_target() -> bool:
    """Whether there is memory to read: of a process, or of a core."""
    return process.has_process() or inferior.is_core()


def is_traced() -> bool:
    """Whether that memory holds a table of traces."""
    return process.is_tracing()


def not_traced() -> str:
    """Why there is no table, and what to do."""
    return process.why_not_traced()


def check(declaration: Declaration) -> None:
    if not declaration.needs_tracing:
        return
    if not has_target():
        raise TmError('There is no process for "tm %s": use "run" or "attach" first.'
                      % declaration.name)
    if inferior.is_core() and not declaration.reads_core:
        raise TmError('This is a core file: "tm %s" needs a live process.' % declaration.name)
    check_stopped()
    if not is_traced():
        raise TmError(not_traced() + ".")


# ---- RET -------------------------------------------------------------------

class RepeatDetector:
    """Tells a command repeated with RET from the same one typed again.

    gdb calls a repeated command like any other.  But a repeated line makes no
    new entry in the history, and there is exactly one prompt between the two.
    Without a terminal there is no history, and so no repetition.
    """

    def __init__(self) -> None:
        self._prompts = 0
        self._last: Optional[Tuple] = None
        gdb.events.before_prompt.connect(self._prompted)

    def _prompted(self, *_unused: Any) -> None:
        self._prompts += 1

    def disconnect(self) -> None:
        gdb.events.before_prompt.disconnect(self._prompted)

    def is_repeat(self, command: str, text: str, from_tty: bool) -> bool:
        """Whether the user just pressed RET after this same command."""
        entry = last_history_entry() if from_tty else ""
        last, self._last = self._last, (self._prompts, command, text, entry)
        return bool(entry) and last == (self._prompts - 1, command, text, entry)


# ---- commands --------------------------------------------------------------

def complete_file(word: str) -> List[str]:
    """Names of files that begin with `word`."""
    folder, base = os.path.split(os.path.expanduser(word))
    try:
        names = sorted(os.listdir(folder or "."))
    except OSError:
        return []
    kept = word[:len(word) - len(os.path.basename(word))]
    return [kept + name + ("/" if os.path.isdir(os.path.join(folder, name)) else "")
            for name in names if name.startswith(base)]


PROVIDERS: options.Providers = {
    "snapshot": lambda word: registry.names(),
    "file": complete_file,
}


_invocations = 0


def invocations() -> int:
    """How many commands of tm there were: something may have changed since the last one."""
    return _invocations


class TmCommand(gdb.Command):
    """One sub-command of tm.  Subclasses set `declaration` and write run()."""

    declaration: Declaration
    repeated = False  # this invocation comes from RET

    def __init__(self) -> None:
        self.__doc__ = options.help_text(self.declaration)
        if self.declaration.prefix:
            super().__init__("tm " + self.declaration.name, gdb.COMMAND_DATA, prefix=True)
        else:
            super().__init__("tm " + self.declaration.name, gdb.COMMAND_DATA)
        COMMANDS[self.declaration.name] = self

    def run(self, values: Parsed, from_tty: bool) -> None:
        """Does the work; says what is wrong with TmError."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether the preconditions of the declaration do not matter now."""
        return False

    def invoke(self, text: str, from_tty: bool) -> None:
        if not self.declaration.repeats:
            self.dont_repeat()
        user_errors(self._invoke, text, from_tty)

    def _invoke(self, text: str, from_tty: bool) -> None:
        global _invocations
        _invocations += 1
        values = options.parse(self.declaration, text, evaluate)
        if values.help:
            gdb.execute("help tm " + self.declaration.name, from_tty)
            return
        if not self.is_ready():
            check(self.declaration)
        self.repeated = self.declaration.repeats and repeats is not None \
            and repeats.is_repeat(self.declaration.name, text, from_tty)
        style.begin(from_tty)
        with progress_shown():
            self.run(values, from_tty)
        for text in frames.complaints():
            warn(text)

    def complete(self, text: str, word: Optional[str]) -> Any:
        if self._is_only_file(text):
            return gdb.COMPLETE_FILENAME
        if word is None:
            return []
        typed = options.last_word(text)
        found = options.complete(self.declaration, text, PROVIDERS)
        return options.cut_to_word(found, typed, word)

    def _is_only_file(self, text: str) -> bool:
        """gdb completes a file name best when nothing else stands on the line."""
        arguments = self.declaration.arguments
        return bool(arguments) and arguments[0].kind == "file" \
            and not text.startswith("-") and len(text.split()) <= 1 and text == text.strip()


class PrefixCommand(TmCommand):
    """A command with sub-commands; alone, or with an unknown one, it helps."""

    alone: Optional[str] = None  # the sub-command that it is without one

    def _invoke(self, text: str, from_tty: bool) -> None:
        full = ("tm " + self.declaration.name).strip()
        word = text.split()[0] if text.split() else ""
        if self.alone and (not word or "-json".startswith(word) and len(word) > 1):
            COMMANDS["%s %s" % (self.declaration.name, self.alone)].invoke(text, from_tty)
            return
        if word and "-help".startswith(word) and len(word) > 1:
            gdb.execute("help " + full, from_tty)
            return
        start = self.declaration.name + " " if self.declaration.name else ""
        below = {name[len(start):]: command for name, command in COMMANDS.items()
                 if name.startswith(start) and name != self.declaration.name
                 and " " not in name[len(start):]}
        if not word:
            gdb.write("".join("%s %s -- %s\n" % (full, name, command.declaration.summary)
                              for name, command in below.items()))
            return
        raise TmError('Undefined %s command: "%s".  The nearest is "%s %s"; try "help %s".'
                      % (full, word, full, options.nearest(word, list(below)), full))


def user_errors(function: Callable, *arguments: Any) -> None:
    """What the user can mend becomes one line; all else stays as it is."""
    try:
        function(*arguments)
    except (TmError, _tm.Error) as error:
        raise gdb.GdbError(" ".join(str(error).split("\n"))) from None
    except gdb.MemoryError as error:
        raise gdb.GdbError("The memory of the process cannot be read: %s"
                           % first_line(str(error))) from None


DECLARED: List[Type[TmCommand]] = []


def command(kind: Type[TmCommand]) -> Type[TmCommand]:
    """Class decorator: register() makes a command of it."""
    DECLARED.append(kind)
    return kind


class Tm(PrefixCommand):
    """The prefix itself."""

    declaration = Declaration(
        name="", prefix=True,
        summary="Trace the memory blocks of a program to the lines that allocated them.")

    def __init__(self) -> None:
        self.__doc__ = ("%s\nUsage: tm SUBCOMMAND [ARGUMENT]...\n\n"
                        "Example: \"tm start 10\", \"continue\", Ctrl-C, \"tm top\"."
                        % self.declaration.summary)
        gdb.Command.__init__(self, "tm", gdb.COMMAND_DATA, prefix=True)


repeats: Optional[RepeatDetector] = None
prefix: Optional[Tm] = None


def find(name: str) -> gdb.Command:
    """The command of this full name, `tm` or `tm top`."""
    return COMMANDS[name[len("tm "):]] if name != "tm" else prefix


def register() -> None:
    """Define `tm` and its sub-commands; may be called again."""
    global repeats, prefix
    COMMANDS.clear()
    prefix = Tm()
    for kind in DECLARED:
        kind()
    repeats = RepeatDetector()


def unregister() -> None:
    """Let go of gdb's events, before the plugin is loaded anew."""
    global repeats
    if repeats:
        repeats.disconnect()
        repeats = None
