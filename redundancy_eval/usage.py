"""Parsers of command lines whose refusals are one line, like every other error."""

import argparse
import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import NoReturn

from redundancy_eval.errors import UsageError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises what it would print with its usage."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            UsageError: always.
        """
        raise UsageError(message)


@contextmanager
def refusals() -> Iterator[None]:
    """Around another program's parser: its refusal in one line.

    Raises:
        UsageError: it refused the command line.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            yield
    except SystemExit as stop:
        if not stop.code:
            raise
        reason = said.getvalue().partition(": error: ")[2].strip()
        raise UsageError(reason or "the arguments were refused") from None
