"""Parsers of command lines whose refusals are one line, like every other error."""

import argparse
import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import NoReturn

from redundancy_eval.errors import SetupError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises what it would print with its usage."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            SetupError: always.
        """
        raise SetupError(f"{' '.join(message.split())} (see {self.prog} --help)")


@contextmanager
def refusals(program: str) -> Iterator[None]:
    """Around another program's parser: its refusal in one line.

    Raises:
        SetupError: it refused the command line.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            yield
    except SystemExit as stop:
        lines = said.getvalue().strip().splitlines()
        if not stop.code:
            raise
        reason = lines[-1].partition("error: ")[2] or lines[-1] if lines else "it refused the arguments"
        raise SetupError(f"{program}: {reason}") from None
