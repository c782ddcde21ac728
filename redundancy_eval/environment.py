"""What is installed, beside the ranges that our package metadata admits and the set that the tests passed on.

Every command imports this module, so what reads packages' metadata is imported where it is used.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from redundancy_eval.errors import DataError, SetupError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

NAME = "redundancy-eval"
EXTRAS = ("models", "lmms-eval", "vlmevalkit")
TESTED = Path(__file__).with_name("tested.json")


@dataclass(frozen=True)
class Package:
    """A package that one of our extras asks for: the range, what is installed (None: nothing), what was tested."""

    name: str
    wanted: "Requirement"
    found: str | None
    tested: str | None

    @property
    def fits(self) -> bool:
        """Whether it is there, in the range."""
        from packaging.version import InvalidVersion, Version

        try:
            return self.found is not None and self.wanted.specifier.contains(Version(self.found), prereleases=True)
        except InvalidVersion:
            return False

    def __str__(self) -> str:
        tested = f" (tested: {self.tested})" if self.tested else ""
        if self.found is None:
            return f"{self.name} is missing{tested}"
        return f"{self.name} {self.found} is installed, {self.wanted.specifier or 'any version'} is needed{tested}"


def tested() -> dict[str, str]:
    """Name -> version of the set that the tests passed on, for this Python; {} where it was not tested."""
    of_all: dict[str, dict[str, str]] = json.loads(TESTED.read_text(encoding="utf-8"))
    return of_all.get(f"{sys.version_info.major}.{sys.version_info.minor}", {})


def wanted(extra: str = "") -> "list[Requirement]":
    """What the base install, or an extra beside it, asks for on this machine; [] where we are not installed."""
    from importlib import metadata

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    try:
        texts = metadata.requires(NAME) or []
    except metadata.PackageNotFoundError:
        return []
    found: list[Requirement] = []
    for requirement in map(Requirement, texts):
        needs = requirement.marker is not None and "extra" in str(requirement.marker)
        if needs != bool(extra) or not (requirement.marker is None or requirement.marker.evaluate({"extra": extra})):
            continue
        if canonicalize_name(requirement.name) == NAME:  # one extra in another
            for other in sorted(requirement.extras):
                found += wanted(other)
        else:
            found.append(requirement)
    return found


def packages(extra: str = "") -> list[Package]:
    """The packages of the base install, or of an extra, as they are here."""
    from packaging.utils import canonicalize_name

    known = tested()
    made = []
    for requirement in wanted(extra):
        name = canonicalize_name(requirement.name)
        made.append(Package(name, requirement, version(name), known.get(name)))
    return made


def version(name: str) -> str | None:
    """Installed version of a distribution; None where there is none."""
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def mend(wrong: list[Package], extra: str) -> str:
    """The command that mends packages which do not fit: exactly these where some are there, else the whole extra."""
    if not wrong or all(package.found is None for package in wrong):
        return f"pip install '{NAME}[{extra}]'" if extra else f"pip install {NAME}"
    return "pip install " + " ".join(f"'{package.name}{package.wanted.specifier}'" for package in wrong)


def why(extra: str) -> str:
    """What of an extra does not fit, and the command that mends it, in a clause."""
    wrong = [package for package in packages(extra) if not package.fits]
    if not wrong:
        known = version(NAME) is not None
        return "`redundancy-eval doctor` tells what is installed" if known else mend(wrong, extra)
    return f"{'; '.join(map(str, wrong[:3]))}{f'; and {len(wrong) - 3} more' * (len(wrong) > 3)}: {mend(wrong, extra)}"


@contextmanager
def needed(what: str, extra: str) -> Iterator[None]:
    """Around imports, and nothing else, that an extra makes possible.

    Args:
        what: the command or framework that cannot go on without them.
        extra: its name; empty for the base install.

    Raises:
        SetupError: one fails; in a line, with the package, the versions and the command that mends it.
    """
    try:
        yield
    except (SetupError, DataError):
        raise
    except Exception as error:  # versions that do not fit each other raise all kinds
        raise SetupError(explain(what, extra, error)) from error


def explain(what: str, extra: str, error: BaseException) -> str:
    """The line on an import that failed; see `needed`."""
    while error.__cause__ is not None:  # libraries that import lazily wrap what went wrong
        error = error.__cause__
    reason = (str(error).strip().splitlines() or ["no message"])[0]
    if not isinstance(error, ImportError):
        reason = f"{type(error).__name__}: {reason}"
    return f"{what} needs {f'the extra {extra}' if extra else 'the base install'} ({reason}): {why(extra)}"
