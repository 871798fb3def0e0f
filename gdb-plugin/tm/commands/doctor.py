"""The command that says what stands in the way of `tm start`, before it is tried.

May use: tm.doctor, which only looks.
"""

from tm import doctor
from tm.commands.framework import TmCommand, command
from tm.commands.output import plural, write, write_json
from tm.options import Declaration, Parsed


@command
class Doctor(TmCommand):
    declaration = Declaration(
        name="doctor",
        summary="Check everything that \"tm start\" needs, and say what to do where it lacks.",
        details="Nothing is changed, in the process or in gdb.  Each line is one check: ok, a\n"
                "note on what will be less than it could be, or a problem.",
        json=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        checks = doctor.examine()
        problems = sum(check.result == doctor.PROBLEM for check in checks)
        if values.json:
            write_json({"command": "doctor", "problems": problems, "checks": [
                {"check": check.name, "result": check.result, "text": check.text,
                 "remedy": check.remedy} for check in checks]})
            return
        write("\n".join(str(check) for check in checks))
        if problems:
            write("%s in the way of \"tm start\"."
                  % plural(problems, "problem stands", "problems stand"))
        elif any(check.name == "tracing" and check.result == doctor.NOTE for check in checks):
            write("Tracing is on.")
        else:
            write("Nothing stands in the way of \"tm start\".")
