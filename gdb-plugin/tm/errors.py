"""What can go wrong in a way the user can mend: one clear line, saying what to do."""


class TmError(Exception):
    """A refusal or failure whose text is one line for the user; commands show it as is."""
