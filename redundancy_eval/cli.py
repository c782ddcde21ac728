"""The command `redundancy-eval`: one parser, errors in one line, exit codes. Each command has a file of its own.

Torch and the frameworks are imported by the commands that use them, when they run.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence

from redundancy_eval import __version__, cores, place
from redundancy_eval.commands import (
    calibrate,
    cost,
    demo,
    doctor,
    explain,
    models,
    parity,
    plan,
    prune,
    report,
    run,
    sweep,
    tasks,
    verify,
    vlmevalkit,
)  # fmt: skip
from redundancy_eval.errors import DataError, SetupError, UsageError
from redundancy_eval.usage import Parser

COMMANDS = (
    sweep, plan, run, vlmevalkit, report, verify, models, tasks, calibrate, cost, prune, explain, parity, demo, doctor,
)  # fmt: skip
NAMES = tuple(command.__name__.rpartition(".")[2] for command in COMMANDS)
_EPILOG = """\
examples:
  redundancy-eval demo
  redundancy-eval sweep --model eagle_masked --model_args pretrained=NVEagle/Eagle-X5-7B \\
      --tasks redundancy_paper -o runs/x5
  redundancy-eval report runs/x5 -o tables"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show a character gets its number
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Torch's threads wait for one another in a busy loop unless told otherwise: beside other work on the same cores
    # each pass then takes several times as long (docs/performance.md). Read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    cores.heed_quota()
    prog, extra = "redundancy-eval", ""
    try:
        if arguments[:1] != ["doctor"]:  # which shows it among the rest
            place.check_all()
        if arguments and arguments[0] in NAMES:
            prog = f"redundancy-eval {arguments[0]}"
        args, rest = parser().parse_known_args(arguments)
        if rest and not args.passes_on:
            raise UsageError(f"unrecognized arguments: {' '.join(rest)}")
        args.typed, extra = arguments, getattr(args, "framework", args.extra)
        return int(args.run(args, rest))
    except UsageError as error:
        return _tell(f"{error} (see {prog} --help)", error.exit_code, prog)
    except (SetupError, DataError) as error:
        return _tell(error, error.exit_code)
    except ImportError as error:  # of what a command imports on its way
        from redundancy_eval import environment

        return _tell(environment.explain(prog, extra, error), SetupError.exit_code)
    except KeyboardInterrupt:
        print("redundancy-eval: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) went away
        sys.stderr.close()
        return 0
    except OSError as error:  # a folder that cannot be written, a full disk
        return _tell(error, SetupError.exit_code)


def parser() -> Parser:
    """The parser of the whole command line."""
    made = Parser(
        prog="redundancy-eval",
        description="Which vision encoders does a multimodal model need, for what, and how sure are we?",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"redundancy-eval {__version__}")
    commands = made.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return made


def _tell(error: object, code: int, prog: str = "redundancy-eval") -> int:
    from redundancy_eval import shown, usage

    usage.step("")
    print(f"{prog}: error: {shown.line(error)}", file=sys.stderr)
    return code
