"""This process: its place among those that were started together, locks, what it prints, and its `sys.argv`."""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from redundancy_eval.errors import DataError, SetupError


def rank() -> int:
    """Number of this process among those that torchrun or accelerate started."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes torchrun or accelerate started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def alone(lock: Path, what: str) -> Iterator[None]:
    """Hold a lock file within; it is free again when its holder is dead.

    Raises:
        SetupError: another process holds it.
    """
    if rank():
        yield
        return
    from filelock import FileLock, Timeout

    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise SetupError(f"another {what} is at work in {lock.parent}") from None
    try:
        yield
    finally:
        held.release()


@contextmanager
def hidden(package: str) -> Iterator[None]:
    """Within, a package that was not imported so far is as if it were not installed, to those that try."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # so importing it fails (reference, "The module cache")
    try:
        yield
    finally:
        del sys.modules[package]


@contextmanager
def silence() -> Iterator[None]:
    """Keep the frameworks' talk from the screen; where the block fails, of it our errors or else all is printed."""
    talk = io.StringIO()
    try:
        with redirect_stdout(talk), redirect_stderr(talk):
            yield
    except (SetupError, DataError):
        raise
    except BaseException:
        lines = talk.getvalue().splitlines()
        ours = [line for line in lines if line.startswith("redundancy-eval: error:")]
        print("\n".join(ours or lines), file=sys.stderr)
        raise


@contextmanager
def argv(program: str, arguments: Sequence[str]) -> Iterator[None]:
    """The frameworks read sys.argv themselves."""
    saved, sys.argv = sys.argv, [program, *arguments]
    try:
        yield
    finally:
        sys.argv = saved
