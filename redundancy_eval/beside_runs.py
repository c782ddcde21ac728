"""Files of other commands (`cost`, `explain`) that a report sets beside runs: which one it is, and whose."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redundancy_eval.errors import DataError

_OF = {"cost": "measured_on", "explain": "encoder_values"}  # a key that a command's file alone has


def check_kind(content: Mapping[str, Any], wanted: str, path: Path) -> None:
    """Refuse a file of the other command, by its name.

    Args:
        content: the JSON object.
        wanted: the command that should have written it.
        path: for the message.

    Raises:
        DataError: the other command wrote it.
    """
    other = next((name for name, key in _OF.items() if name != wanted and key in content), "")
    if other and _OF[wanted] not in content:
        raise DataError(f"{path} is what redundancy-eval {other} writes; --{other} takes it, --{wanted} does not")


def check_same(found: Mapping[str, str], runs: Mapping[str, str], words: str, where: object) -> None:
    """Refuse a file that is of another model than some runs.

    Args:
        found: what the file says of its model: `model`, `checkpoint`, `encoders`, arguments.
        runs: the same of the runs, with the same names.
        words: what the file does, `costs of` or `explains`.
        where: the file, for the message.

    Raises:
        DataError: one of them differs.
    """
    for name, own in found.items():
        if own != runs[name]:
            raise DataError(f"{where}: {words} {name} {own or 'unset'}; the runs are of {runs[name] or 'unset'}")
