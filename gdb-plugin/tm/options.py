"""Declaration of a command's arguments and options, and what follows from it:
the parser, the help text and the completion.

May use: the standard library and tm.errors.  Must never import gdb: the
debugger comes in through the callbacks `evaluate` (text -> int) and
`providers` (kind -> list of words), so that all of this is tested without it.
"""

import difflib
import re
import textwrap
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from tm.errors import TmError

UNLIMITED = None  # the value of a "count" that has no limit

SIZE_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
SIZE_PATTERN = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(?:([KMGT])(?:iB)?|B)?", re.IGNORECASE)
SECONDS_PATTERN = re.compile(r"\d+(\.\d*)?|\.\d+")
INTEGER_PATTERN = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|\d+)")

# Kinds of values:
#   flag        (options only) present or not
#   integer     a number or a debugger expression, minimum … maximum
#   count       the same, or "unlimited"
#   size        512, 64KiB, 1.5MiB, or a debugger expression
#   seconds     0.5, 2, or a debugger expression, minimum … maximum
#   expression  debugger expression: all that is left of the line, as typed
#   choice      one of `choices`
#   word        anything; `snapshot`, `export`, … are words that complete
#   file        the name of a file


@dataclass(frozen=True)
class Argument:
    """A positional argument; its value is found under `name` in lower case."""
    name: str
    kind: str
    help: str
    optional: bool = False
    repeated: bool = False
    choices: Tuple[str, ...] = ()
    minimum: Optional[int] = None
    maximum: Optional[int] = None
    extra: Tuple[str, ...] = ()  # words offered beside those of the kind

    @property
    def key(self) -> str:
        return self.name.lower()

    @property
    def usage(self) -> str:
        text = "|".join(self.choices) if self.choices and len(self.choices) < 3 else self.name
        text = "|".join((text,) + self.extra)
        text += "..." if self.repeated else ""
        return "[%s]" % text if self.optional else text


@dataclass(frozen=True)
class Option:
    """An option; its value is found under `name` with `_` for `-`."""
    name: str
    help: str
    kind: str = "flag"
    value_name: str = ""
    choices: Tuple[str, ...] = ()
    minimum: Optional[float] = None
    maximum: Optional[int] = None
    default: Any = None

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")

    @property
    def usage(self) -> str:
        if self.kind == "flag":
            return "-" + self.name
        return "-%s %s" % (self.name, "|".join(self.choices) or self.value_name)


JSON = Option("json", "Print one JSON document on one line instead of text.")
HELP = Option("help", "Print this text.")


@dataclass(frozen=True)
class Declaration:
    """All there is to know about one command."""
    name: str                       # behind "tm ": "top", "filter add"
    summary: str                    # one line, a sentence
    arguments: Tuple[Argument, ...] = ()
    options: Tuple[Option, ...] = ()
    details: str = ""               # prose for the help
    examples: Tuple[str, ...] = ()
    json: bool = False              # a reporting command: takes -json
    needs_tracing: bool = False     # there must be a process, stopped and traced
    reads_core: bool = False        # the core of a traced process will do as well
    repeats: bool = False           # RET does something useful
    prefix: bool = False            # has sub-commands of its own

    @property
    def all_options(self) -> Tuple[Option, ...]:
        return self.options + ((JSON,) if self.json else ()) + (HELP,)


class Token(NamedTuple):
    text: str   # without quotes
    raw: str    # as typed
    start: int


@dataclass
class Parsed:
    """The values of one command line; absent ones are None or False."""
    values: Dict[str, Any] = field(default_factory=dict)
    given: Tuple[str, ...] = ()
    help: bool = False

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(name) from None


# ---- cutting a line into words ---------------------------------------------

CLOSING = {"(": ")", "[": "]", "{": "}"}


def tokenize(text: str) -> Tuple[List[Token], Optional[str]]:
    """Words of a line, and the quote that was left open, if any.

    Blanks inside quotes, and inside brackets where these are closed, do not
    separate, so that `-limit (n + 1)` and `"a file"` are one word each.
    """
    tokens: List[Token] = []
    position, end = 0, len(text)
    while position < end:
        if text[position].isspace():
            position += 1
            continue
        stop, plain, quote = _word(text, position)
        tokens.append(Token(plain, text[position:stop], position))
        if quote:
            return tokens, quote
        position = stop
    return tokens, None


def _word(text: str, start: int) -> Tuple[int, str, Optional[str]]:
    plain: List[str] = []
    closing: List[str] = []
    bracket_at = start
    position, end = start, len(text)
    quote = None
    while position < end:
        character = text[position]
        if quote:
            if character == quote:
                quote = None
            else:
                if character == "\\" and position + 1 < end and text[position + 1] in quote + "\\":
                    position += 1
                plain.append(text[position])
        elif character.isspace() and not closing:
            break
        elif character in "'\"":
            quote = character
        elif character == "\\" and text[position + 1:position + 2] == " ":
            position += 1  # newer gdbs complete the names of files so
            plain.append(" ")
        else:
            if character in CLOSING and text.find(CLOSING[character], position) >= 0:
                if not closing:
                    bracket_at = position
                closing.append(CLOSING[character])
            elif closing and character == closing[-1]:
                closing.pop()
            plain.append(character)
        position += 1
    if closing and not quote:
        # A bracket that is not balanced in the end groups nothing.
        cut = next((i for i in range(bracket_at, end) if text[i].isspace()), end)
        return cut, text[start:cut].replace('"', "").replace("'", ""), None
    return position, "".join(plain), quote


def looks_like_option(raw: str) -> bool:
    """`-limit`, but not `-`, `-1` or `-.5`, which are operands."""
    return len(raw) > 1 and raw[0] == "-" and not raw[1].isdigit() and raw[1] != "."


# ---- values ----------------------------------------------------------------

Evaluate = Callable[[str], int]


def no_evaluator(text: str) -> int:
    raise TmError("there is no debugger to evaluate it")


def parse_integer(text: str, evaluate: Evaluate = no_evaluator) -> int:
    """A literal is read here; only expressions need the debugger."""
    if INTEGER_PATTERN.fullmatch(text):
        digits = text.lstrip("+-")
        # As in the debugger, a leading 0 means octal.
        if digits.lower().startswith("0x"):
            number = int(digits, 16)
        elif len(digits) > 1 and digits[0] == "0" and not set(digits) & set("89"):
            number = int(digits, 8)
        else:
            number = int(digits, 10)
        return -number if text[0] == "-" else number
    return evaluate(text)


def parse_size(text: str, evaluate: Evaluate = no_evaluator) -> int:
    match = SIZE_PATTERN.fullmatch(text.strip())
    if match and not (INTEGER_PATTERN.fullmatch(text) and text[0] == "0"):
        number, unit = match.group(1), (match.group(2) or "").lower()
        if "." in number:
            return round(float(number) * SIZE_UNITS[unit])
        return int(number) * SIZE_UNITS[unit]
    return parse_integer(text, evaluate)


def size_text(size: int) -> str:
    """A size exactly, as parse_size reads it, with the largest unit that is whole: `512KiB`."""
    units = ["", "KiB", "MiB", "GiB", "TiB"]
    while size and size % 1024 == 0 and len(units) > 1:
        size //= 1024
        units.pop(0)
    return "%d%s" % (size, units[0])


def parse_seconds(text: str, evaluate: Evaluate = no_evaluator) -> float:
    if SECONDS_PATTERN.fullmatch(text):
        return float(text)
    return parse_integer(text, evaluate)


PARSERS: Dict[str, Callable[[str, Evaluate], Any]] = {
    "integer": parse_integer, "count": parse_integer, "size": parse_size, "seconds": parse_seconds,
}


def format_range(minimum: Optional[float], maximum: Optional[int]) -> str:
    if minimum is None and maximum is None:
        return "a number"
    if maximum is None:
        return "a number from %g on" % minimum
    return "a number from %g to %d" % (minimum or 0, maximum)


def parse_value(what: str, spec: Any, token: Token, evaluate: Evaluate) -> Any:
    """The value of an argument or option `spec`, called `what` in errors."""
    if spec.kind == "choice":
        if token.text in spec.choices:
            return token.text
        raise TmError('%s must be one of %s, not "%s".'
                      % (what, ", ".join(spec.choices), token.raw))
    if spec.kind in PARSERS:
        if spec.kind == "count" and token.raw == "unlimited":
            return UNLIMITED
        expected = "%s must be %s" % (what, format_range(spec.minimum, spec.maximum))
        if spec.kind == "size":
            expected = "%s must be a size such as 512, 64KiB or 1.5MiB" % what
            if spec.minimum or spec.maximum:
                expected = "%s must be a size from %s to %s" % (
                    what, size_text(spec.minimum or 0), size_text(spec.maximum))
        elif spec.kind == "seconds":
            expected = expected.replace("a number", "a number of seconds")
        elif spec.kind == "count":
            expected += ' or "unlimited"'
        try:
            number = PARSERS[spec.kind](token.raw, evaluate)
        except TmError as error:
            raise TmError('%s, not "%s" (%s).'
                          % (expected, token.raw, str(error).rstrip("."))) from None
        low = spec.minimum if spec.minimum is not None else (0 if spec.kind == "size" else None)
        if (low is not None and number < low) or (
                spec.maximum is not None and number > spec.maximum):
            is_plain = isinstance(number, float) or str(number) == token.raw
            shown = token.raw if is_plain else "%s = %d" % (token.raw, number)
            raise TmError("%s, not %s." % (expected, shown))
        return number
    if spec.kind == "expression":
        return token.raw
    return token.text


# ---- the parser ------------------------------------------------------------

def find_option(declaration: Declaration, raw: str) -> Option:
    name = raw[1:]
    options = declaration.all_options
    exact = [option for option in options if option.name == name]
    found = exact or [option for option in options if option.name.startswith(name)]
    if name == "h":
        found = [HELP]
    if len(found) == 1:
        return found[0]
    if found:
        raise TmError('Ambiguous option "%s": %s.'
                      % (raw, ", ".join("-" + option.name for option in found)))
    names = ["-" + option.name for option in options]
    near = difflib.get_close_matches(raw, names, 1)
    if near:
        raise TmError('Unknown option "%s": did you mean "%s"?' % (raw, near[0]))
    raise TmError('Unknown option "%s": "tm %s" takes %s.'
                  % (raw, declaration.name, ", ".join(names)))


def wants_help(declaration: Declaration, tokens: Sequence[Token]) -> bool:
    """-h anywhere before `--`, however wrong the rest is."""
    for token in tokens:
        if token.raw == "--":
            return False
        if token.raw == "-h" or (len(token.raw) > 2 and "-help".startswith(token.raw) and not [
                option for option in declaration.options
                if option.name.startswith(token.raw[1:])]):
            return True
    return False


def parse(declaration: Declaration, text: str, evaluate: Evaluate = no_evaluator) -> Parsed:
    """The values of a command line, or TmError with one clear line."""
    tokens, quote = tokenize(text or "")
    parsed = Parsed({argument.key: [] if argument.repeated else None
                     for argument in declaration.arguments})
    for option in declaration.all_options:
        parsed.values[option.key] = False if option.kind == "flag" else option.default
    if wants_help(declaration, tokens):
        parsed.help = True
        return parsed
    if quote:
        raise TmError("Unmatched %s quote." % ("single" if quote == "'" else "double"))

    given: List[str] = []
    operands: List[Token] = []
    index, only_operands = 0, False
    while index < len(tokens):
        token = tokens[index]
        index += 1
        if only_operands or not looks_like_option(token.raw):
            operands.append(token)
        elif token.raw == "--":
            only_operands = True
        else:
            option = find_option(declaration, token.raw)
            given.append(option.key)
            if option.kind == "flag":
                parsed.values[option.key] = True
                continue
            if index == len(tokens) or looks_like_option(tokens[index].raw):
                raise TmError("-%s needs a value: -%s." % (option.name, option.usage[1:]))
            parsed.values[option.key] = parse_value(
                "-" + option.name, option, tokens[index], evaluate)
            index += 1
    for argument, token in assign(declaration, operands):
        value = parse_value(argument.name, argument, token, evaluate)
        given.append(argument.key)
        if argument.repeated:
            parsed.values[argument.key].append(value)
        else:
            parsed.values[argument.key] = value
    parsed.given = tuple(given)
    return parsed


def assign(declaration: Declaration,
           operands: Sequence[Token]) -> List[Tuple[Argument, Token]]:
    """Which argument each operand is.

    A word that is a choice of an optional argument goes there, wherever it
    stands: so `tm top 1`, `tm diff 1 lineno` and `tm top 1 lineno` work.
    """
    assigned: List[Tuple[Argument, Token]] = []
    waiting = list(declaration.arguments)
    for number, token in enumerate(operands):
        argument = taker(waiting, token)
        if argument is None:
            raise TmError('Unexpected argument "%s": usage: %s.'
                          % (token.raw, usage(declaration)))
        if takes_rest(declaration, argument):
            raw = " ".join(other.raw for other in operands[number:])
            assigned.append((argument, Token(raw, raw, token.start)))
            return assigned
        if not argument.repeated:
            waiting.remove(argument)
        assigned.append((argument, token))
    for argument in waiting:
        if not argument.optional and not any(argument is used for used, _ in assigned):
            raise TmError("Argument %s is missing: usage: %s."
                          % (argument.name, usage(declaration)))
    return assigned


def takes_rest(declaration: Declaration, argument: Argument) -> bool:
    """An expression may hold blanks; so may a lone number (`tm start n + 1`)."""
    return argument.kind == "expression" or (
        argument.kind in ("integer", "size") and len(declaration.arguments) == 1)


def taker(waiting: Sequence[Argument], token: Token) -> Optional[Argument]:
    """The argument that a word is for, of those that wait for one."""
    for argument in waiting:
        if argument.kind == "choice" and (not argument.optional or token.text in argument.choices):
            return argument
        if not argument.optional:
            break
    named = [argument for argument in waiting if argument.kind == "choice"
             and token.text in argument.choices]
    others = [argument for argument in waiting if argument.kind != "choice"]
    return (named + others or [None])[0]


# ---- help ------------------------------------------------------------------

def usage(declaration: Declaration) -> str:
    if declaration.prefix:
        return "tm %s SUBCOMMAND" % declaration.name
    words = ["tm " + declaration.name]
    words += [argument.usage for argument in declaration.arguments]
    words += ["[%s]" % option.usage for option in declaration.all_options if option is not HELP]
    return " ".join(words)


def indented(text: str) -> List[str]:
    return textwrap.wrap(text, 76, initial_indent="    ", subsequent_indent="    ",
                         fix_sentence_endings=True, break_on_hyphens=False)


def help_text(declaration: Declaration) -> str:
    """The text of `help tm NAME`, in the manner of the debugger's own."""
    lines = [declaration.summary] + textwrap.wrap(
        "Usage: " + re.sub(r"\[(\S+) (\S+)\]", "[\\1\0\\2]", usage(declaration)), 76,
        subsequent_indent="         ", break_on_hyphens=False, break_long_words=False)
    lines = [line.replace("\0", " ") for line in lines]
    if declaration.details:
        lines += ["", declaration.details.strip()]
    if declaration.arguments:
        lines += ["", "Arguments:"]
        for argument in declaration.arguments:
            lines += ["  " + argument.name] + indented(argument.help)
    if not declaration.prefix:
        lines += ["", "Options:"]
        for option in declaration.all_options:
            lines += ["  " + option.usage] + indented(option.help)
    if declaration.examples:
        lines += ["", "Examples:"] + ["  " + example for example in declaration.examples]
    return "\n".join(lines)


# ---- completion ------------------------------------------------------------

Providers = Dict[str, Callable[[str], List[str]]]


def last_word(text: str) -> str:
    """What stands between the last blank and the cursor."""
    tokens, quote = tokenize(text)
    if not tokens or (text[-1].isspace() and not quote and
                      tokens[-1].start + len(tokens[-1].raw) < len(text)):
        return ""
    return tokens[-1].raw


def complete(declaration: Declaration, text: str, providers: Providers) -> List[str]:
    """Words that may stand in place of the last one of `text`."""
    word = last_word(text)
    tokens, _ = tokenize(text[:len(text) - len(word)])
    operands: List[Token] = []
    pending: Optional[Option] = None
    only_operands = False
    for token in tokens:
        if pending:
            pending = None
        elif only_operands or not looks_like_option(token.raw):
            operands.append(token)
        elif token.raw == "--":
            only_operands = True
        else:
            try:
                option = find_option(declaration, token.raw)
            except TmError:
                continue
            pending = option if option.kind != "flag" else None
    if pending:
        return _starting(_words_of(pending, word, providers), word)
    if word.startswith("-") and not only_operands:
        names = ["-" + option.name for option in declaration.all_options]
        return _starting(names, word)
    return _starting(_operand_words(declaration, operands, word, providers), word)


def _operand_words(declaration: Declaration, operands: Sequence[Token], word: str,
                   providers: Providers) -> List[str]:
    waiting = list(declaration.arguments)
    for token in operands:
        argument = taker(waiting, token)
        if argument and not argument.repeated and argument.kind != "expression":
            waiting.remove(argument)
    words: List[str] = []
    for argument in waiting:
        words += _words_of(argument, word, providers)
        words += [extra for extra in argument.extra if extra not in words]
        if not argument.optional:
            break
    taken = {token.text for token in operands} if waiting and waiting[0].repeated else set()
    return [each for each in words if each not in taken]


def _words_of(spec: Any, word: str, providers: Providers) -> List[str]:
    if spec.kind == "choice":
        return list(spec.choices)
    if spec.kind == "count":
        return ["unlimited"]
    provider = providers.get(spec.kind)
    return provider(word) if provider else []


def _starting(words: Sequence[str], word: str) -> List[str]:
    return [each for each in words if each.startswith(word)]


def cut_to_word(candidates: Sequence[str], typed: str, word: str) -> List[str]:
    """Candidates for `typed`, made to stand for `word`, its end.

    The debugger breaks words at `-` and `/` too, and wants only what stands
    behind the last break.
    """
    skipped = len(typed) - len(word)
    return [candidate[skipped:] for candidate in candidates]


def nearest(word: str, names: Sequence[str]) -> str:
    """The name most like the word, however little that is."""
    return difflib.get_close_matches(word, names, 1, 0.0)[0]
