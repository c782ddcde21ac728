"""The two families of errors a user can meet, and the exit codes they turn into."""


class SetupError(Exception):
    """The set-up is wrong (unknown encoder, missing extra, no such path): one line, exit code 2, no traceback."""

    exit_code = 2


class DataError(Exception):
    """The data is wrong (truncated log, masks with different documents): file and line or document, exit code 3."""

    exit_code = 3


class Hole(DataError):
    """A benchmark under one mask has no score, for a reason that concerns nothing else: a hole in the table."""


class UsageError(SetupError):
    """A command line that a parser refuses; the command line's own door says of which command."""
