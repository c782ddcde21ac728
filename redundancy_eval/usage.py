"""Parsers of command lines: refusals in one line, flags with `-` and `_`, and what a command says of itself."""

import argparse
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from textwrap import fill
from typing import Any, NoReturn

from redundancy_eval import environment
from redundancy_eval.errors import UsageError

Run = Callable[[argparse.Namespace, Sequence[str]], int]
# How a mask is told, for help.
MASKS = """\
masks, in --model_args:
  drop=clip+sam    drop these encoders (names joined by +)    drop=none   the full model
  keep=eva02       drop all others                            drop=all    drop every encoder"""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises what it would print with its usage.

    Args:
        flags: adds the flags, once something is parsed or the help asked for: what they import, of the base install
            alone, may take long.
        settings: ArgumentParser's.
    """

    def __init__(self, *, flags: "Callable[[Parser], None] | None" = None, **settings: Any):
        super().__init__(**settings)
        self.flags = flags

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            UsageError: always.
        """
        raise UsageError(message)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See ArgumentParser."""
        self._complete()
        return super().parse_known_args(args, namespace)

    def format_help(self) -> str:
        """See ArgumentParser."""
        self._complete()
        return super().format_help()

    def _complete(self) -> None:
        flags, self.flags = self.flags, None
        if flags is not None:
            with environment.needed("redundancy-eval", ""):
                flags(self)


def step(what: str) -> None:
    """Say on a terminal what takes its time now; the next step writes over it, and `step("")` ends it."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def command(
    commands: Any, name: str, run: Run, flags: Callable[[Parser], None], *, help: str, description: str,
    example: str, extra: str = "", passes_on: bool = False,
) -> None:  # fmt: skip
    """Add a command to the command line.

    Args:
        commands: what `add_subparsers` gave.
        name: of the command.
        run: takes the parsed arguments and those that nobody here knows; returns the exit code.
        flags: adds the command's flags to its parser.
        help: its line in the list of commands.
        description: what it does.
        example: command lines.
        extra: the extra whose packages it imports; that of `--framework`, where it has this flag.
        passes_on: whether what nobody here knows is a framework's to understand, else it is refused.
    """
    shown = "\n".join(f"  {line}" for line in example.splitlines())
    parser: Parser = commands.add_parser(
        name, help=help, description=fill(description, 100), epilog=f"example:\n{shown}", flags=flags,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.set_defaults(run=run, extra=extra, passes_on=passes_on)


def end(parser: Parser, text: str) -> None:
    """Add a part to the end of a parser's help."""
    parser.epilog = "\n\n".join(filter(None, (text, parser.epilog)))


def add(parser: Any, *names: str, **settings: Any) -> None:
    """Add a flag to a parser (or group) that takes `-` and `_` alike; help and errors show the names as given."""
    action = parser.add_argument(*names, **settings)
    for name in names:
        if name.startswith("--"):
            for spelling in (name[2:].replace("_", "-"), name[2:].replace("-", "_")):
                # argparse has no names that are understood and not shown.
                parser._option_string_actions.setdefault(f"--{spelling}", action)


def add_out(parser: Any, help: str, *aliases: str, **settings: Any) -> None:
    """Add `-o/--out`, where something is written.

    Args:
        parser: of the command.
        help: what goes there.
        aliases: the frameworks' own names for it.
        settings: add_argument's.
    """
    add(parser, "-o", "--out", *aliases, dest="out", help=help, type=_named, **{"metavar": "OUT", **settings})


def _named(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: name a folder or file")
    return text


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
