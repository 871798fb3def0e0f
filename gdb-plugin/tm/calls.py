"""Calls of the process's functions that outlive the debugger.

gdb's own calls return to a breakpoint on the stack: when gdb is killed in the
middle of one, the process goes on to that address and dies.  Here the thread
runs a piece of code that knows all its registers: it calls the function, then
puts the registers and the signal mask back and jumps to where the thread was
interrupted.  The debugger stops it just before that.  Whenever the debugger
dies, the thread finds its own way back.

Each change of the registers is one PTRACE_SETREGS, so it is done or not done.
Signals wait until the call is over (but for those of its own faults), and the
call needs no signal of the program's: SIGSEGV and SIGTRAP may be blocked.

For a process that this gdb traces with ptrace(2), x86-64.  May use: ctypes, os.
Must never import gdb, nor leave a thread without a way back.
"""

import contextlib
import ctypes
import os
import signal
import struct
import time
from typing import Callable, Dict, List, Sequence, Tuple

from .errors import TmError

# <sys/ptrace.h>, <bits/waitflags.h>
_CONT, _GETREGS, _SETREGS, _SYSCALL = 7, 12, 13, 24
_GETSIGINFO, _GETSIGMASK, _SETSIGMASK = 0x4202, 0x420A, 0x420B
_WALL = 0x40000000
_EVENT_EXEC = 4
_SYSCALL_STOP = (signal.SIGTRAP | 0x80, signal.SIGTRAP)
_RT_TGSIGQUEUEINFO, _TGKILL = 297, 234

# struct user_regs_struct of <sys/user.h>
_NAMES = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss "
    "fs_base gs_base ds es fs gs"
).split()
_REGISTERS = struct.Struct("27Q")
_ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
_SYSTEM_CALL_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
_MASK64 = (1 << 64) - 1
_TRAP_AND_DIRECTION = 0x500

# A system call that was interrupted before it did anything returns one of these to the
# kernel's own code, which makes it again (include/linux/errno.h).
_ERESTART = {_MASK64 - 511: None, _MASK64 - 512: None, _MASK64 - 513: None, _MASK64 - 515: 219}
_ENOSYS = _MASK64 - 37

# Signals of the program's own faults, which cannot wait.
_FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGTRAP, signal.SIGFPE,
           signal.SIGSYS)
_ALL_BUT_FAULTS = _MASK64 & ~sum(1 << number - 1 for number in _FAULTS)
# Signals that do nothing to a program that does not handle them; the last one always stops.
_HARMLESS = (signal.SIGURG, signal.SIGWINCH, signal.SIGCHLD)

_PATIENCE = 5  # seconds; calls take milliseconds
_ENDED = "The program ended while it was made to call a function."

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def ptrace(request: int, tid: int, address: int = 0, data=None) -> None:
    """ptrace(2); TmError when the kernel refuses."""
    if _libc.ptrace(request, tid, address, data) < 0:
        reason = os.strerror(ctypes.get_errno())
        raise TmError(f"Thread {tid} cannot be made to call a function: {reason}.")


# ---- the code ----------------------------------------------------------------

# The order in which the registers stand behind the code, and are loaded.
_SAVED = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi".split()
_LOAD = {  # movq disp32(%rip), %register
    "rax": "488b05", "rcx": "488b0d", "rdx": "488b15", "rbx": "488b1d", "rbp": "488b2d",
    "rsi": "488b35", "rdi": "488b3d", "r8": "4c8b05", "r9": "4c8b0d", "r10": "4c8b15",
    "r11": "4c8b1d", "r12": "4c8b25", "r13": "4c8b2d", "r14": "4c8b35", "r15": "4c8b3d",
    "rsp": "488b25",
}


class _Code:
    """The code's bytes, and where its parts are."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self._places: List[Tuple[int, str]] = []
        self.call = len(self.bytes)
        # The end of a system call that the thread is in would overwrite %rax.
        self._emit("ffd3 eb05")  # call *%rbx; jmp 1f
        self.system_call = len(self.bytes)
        self._emit("4889d8 0f05")  # movq %rbx, %rax; syscall; 1:
        self._emit("4889c3")  # movq %rax, %rbx
        self._emit("b80e000000 bf02000000")  # rt_sigprocmask(SIG_SETMASK,
        self._emit("488d35", "mask")  # mask,
        self._emit("31d2 41ba08000000 0f05")  # NULL, 8)
        self.finish = len(self.bytes)
        for name in _SAVED:
            self._emit(_LOAD[name], name)
        self._emit("ff35", "eflags")  # pushq
        self._emit("9d")  # popfq
        self._emit(_LOAD["rsp"], "rsp")
        self._emit("ff25", "rip")  # jmp
        self.bytes += bytes(-len(self.bytes) % 8)
        self.slots: Dict[str, int] = {}
        for name in (*_SAVED, "eflags", "rsp", "rip", "mask"):
            self.slots[name] = len(self.bytes)
            self.bytes += bytes(8)
        for place, name in self._places:
            struct.pack_into("<i", self.bytes, place, self.slots[name] - place - 4)

    def _emit(self, code: str, slot: str = "") -> None:
        self.bytes += bytes.fromhex(code)
        if slot:
            self._places.append((len(self.bytes), slot))
            self.bytes += bytes(4)

    def for_registers(self, registers: Dict[str, int], mask: int) -> bytes:
        """The code that leads back to these registers and this signal mask."""
        code = bytearray(self.bytes)
        for name, place in self.slots.items():
            struct.pack_into("<Q", code, place, mask if name == "mask" else registers[name])
        return bytes(code)


_CODE = _Code()
SIZE = len(_CODE.bytes)


def is_code(found: bytes) -> bool:
    """Whether these bytes are the code of a call, whosever."""
    return found[:_CODE.finish] == _CODE.bytes[:_CODE.finish]


# ---- the call ----------------------------------------------------------------


def _get_registers(tid: int) -> Dict[str, int]:
    buffer = ctypes.create_string_buffer(_REGISTERS.size)
    ptrace(_GETREGS, tid, 0, buffer)
    return dict(zip(_NAMES, _REGISTERS.unpack(buffer.raw)))


def _set_registers(tid: int, registers: Dict[str, int]) -> None:
    data = _REGISTERS.pack(*(registers[name] for name in _NAMES))
    ptrace(_SETREGS, tid, 0, ctypes.create_string_buffer(data, len(data)))


def _information(tid: int):
    """The siginfo_t of the signal or event that the thread has stopped for."""
    information = ctypes.create_string_buffer(128)
    ptrace(_GETSIGINFO, tid, 0, information)
    return information


def _get_mask(tid: int) -> int:
    buffer = ctypes.create_string_buffer(8)
    ptrace(_GETSIGMASK, tid, 8, buffer)
    return int.from_bytes(buffer.raw, "little")


def _set_mask(tid: int, mask: int) -> None:
    ptrace(_SETSIGMASK, tid, 8, ctypes.create_string_buffer(mask.to_bytes(8, "little"), 8))


def _wait(tid: int) -> int:
    """The signal or kind of the thread's next stop; 0 when there was none for seconds.

    Its end is left for gdb to see.
    """
    options = os.WEXITED | os.WSTOPPED | os.WNOWAIT | os.WNOHANG | _WALL
    begun, looks = time.monotonic(), 0
    try:
        event = os.waitid(os.P_PID, tid, options)
        while event is None and time.monotonic() < begun + _PATIENCE:
            looks += 1
            if looks % 100 == 0 and _has_ended(tid):
                raise TmError(_ENDED)  # the main thread's end is told after that of the others
            time.sleep(0 if looks < 50 else 0.0002)
            event = os.waitid(os.P_PID, tid, options)
    except ChildProcessError:
        raise TmError(_ENDED) from None
    if event is None:
        return 0
    if event.si_code not in (os.CLD_TRAPPED, os.CLD_STOPPED):
        raise TmError(_ENDED)
    _, status = os.waitpid(tid, _WALL)
    return status >> 8


def _has_ended(tid: int) -> bool:
    try:
        with open(f"/proc/{tid}/stat", encoding="latin-1") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZXx"
    except OSError:
        return True


def _made_again(registers: Dict[str, int]) -> Dict[str, int]:
    """Registers that make an interrupted system call again without the kernel's help."""
    made = dict(registers, orig_rax=_MASK64)
    if registers["orig_rax"] >> 63 == 0 and registers["rax"] in _ERESTART:
        made["rax"] = _ERESTART[registers["rax"]] or registers["orig_rax"]
        made["rip"] = registers["rip"] - 2
    return made


def may_signal(pid: int, tid: int) -> bool:
    """Whether this gdb may send signals to the thread, which a call needs."""
    return _libc.syscall(_TGKILL, pid, tid, 0) == 0


def is_in_system_call(tid: int) -> bool:
    """True for a thread stopped by `catch syscall` or `catch fork`, with the call half made.

    At `catch exec` nobody waits for the call's result any more.
    """
    registers = _get_registers(tid)
    if registers["orig_rax"] >> 63 or registers["rax"] != _ENOSYS:
        return False
    code = int.from_bytes(_information(tid).raw[8:12], "little")  # si_code: ptrace(2)
    return code >> 8 != _EVENT_EXEC


class Caller:
    """Makes calls in one thread, which this gdb has stopped.

    area: SIZE bytes of executable memory where nothing else ever runs;
    write(address, bytes): writes to the process; spare: what the area's bytes
    should be when no call is made; unused: bits of signals that may be sent to
    the thread without any effect but a stop.
    """

    def __init__(self, pid: int, tid: int, area: int, spare: bytes, unused: int, write: Callable):
        self.pid, self.tid = pid, tid
        self.area, self.spare = area, spare
        self.write = write
        self.halt_pending = False  # a SIGSTOP of ours is on its way
        self.signal = next(
            (number for number in _HARMLESS if unused >> number - 1 & 1), signal.SIGSTOP
        )

    def call(self, address: int, *arguments: int) -> int:
        """A function's result, as an unsigned number."""
        return self._run(_CODE.call, address, zip(_ARGUMENTS, arguments))

    def system_call(self, number: int, *arguments: int) -> int:
        """A system call's result, as an unsigned number."""
        return self._run(_CODE.system_call, number, zip(_SYSTEM_CALL_ARGUMENTS, arguments))

    def _run(self, entry: int, what: int, arguments) -> int:
        tid, original, mask = self.tid, _get_registers(self.tid), _get_mask(self.tid)
        back = _made_again(original)
        code = _CODE.for_registers(back, mask)
        begin = dict(original, orig_rax=_MASK64, rbx=what & _MASK64, rip=self.area + entry)
        begin["rax"] = 0  # no vector registers hold arguments
        begin["rsp"] = (original["rsp"] - 256) & ~15  # below the red zone
        begin["eflags"] &= ~_TRAP_AND_DIRECTION
        begin.update((name, value & _MASK64) for name, value in arguments)
        stops: List[int] = []
        with contextlib.ExitStack() as undo:
            # Ctrl-C waits for the few milliseconds until the thread is back.
            undo.callback(signal.pthread_sigmask, signal.SIG_SETMASK,
                          signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,)))
            undo.callback(self.write, self.area, self.spare)
            self.write(self.area, code)
            undo.callback(self._settle, original, back, mask, stops)
            _set_registers(tid, begin)
            _set_mask(tid, _ALL_BUT_FAULTS)
            return self._run_to_finish(stops)

    def _run_to_finish(self, stops: List[int]) -> int:
        while True:
            ptrace(_SYSCALL, self.tid)
            stop = _wait(self.tid)
            if stop in _SYSCALL_STOP:
                registers = _get_registers(self.tid)
                if registers["rip"] == self.area + _CODE.finish:
                    if registers["rax"] != _ENOSYS:  # which it is at the call's entry
                        return registers["rbx"]
                elif stop == signal.SIGTRAP and registers["orig_rax"] >> 63:  # a breakpoint
                    raise TmError("The program stopped in a function that it was made to call.")
            elif stop == 0:
                # It waits for another thread, which is stopped: let it stop too.
                self._send(signal.SIGSTOP)
                stop = _wait(self.tid)
                if stop == 0:
                    raise TmError("The program cannot be stopped: it hangs in a system call.")
                self.halt_pending = stop != signal.SIGSTOP
                raise TmError(
                    "A thread that was made to call a function waited for another thread in "
                    "it: let the program run on a little and try again."
                )
            elif stop in _FAULTS:
                name = signal.Signals(stop).name
                raise TmError(f"The program got {name} in a function that it was made to call.")
            elif stop < 256:
                stops.append(stop)  # SIGSTOP and its like, which cannot be blocked

    def _settle(self, original, back, mask: int, stops: Sequence[int]) -> None:
        """Lets the thread stop for a signal, as it did before, with its own registers.

        At such a stop the kernel sees to interrupted system calls when the
        thread is resumed, and to the handlers of signals that came meanwhile.
        """
        _set_mask(self.tid, mask)
        _set_registers(self.tid, back)
        for number in stops:
            self._send(number)
        self._send(self.signal)
        others = []
        while True:
            ptrace(_CONT, self.tid)
            stop = _wait(self.tid)
            if stop == signal.SIGSTOP and self.halt_pending:
                self.halt_pending = False
            elif stop in (0, self.signal):
                break
            else:
                others.append((stop, _information(self.tid)))
        _set_registers(self.tid, original)
        for number, information in others:
            self._send_again(number, information)

    def _send(self, number: int) -> None:
        _libc.syscall(_TGKILL, self.pid, self.tid, int(number))

    def _send_again(self, number: int, information) -> None:
        """A signal that came first is for gdb to see, as if it had not been taken yet."""
        if _libc.syscall(_RT_TGSIGQUEUEINFO, self.pid, self.tid, number, information) < 0:
            self._send(number)
