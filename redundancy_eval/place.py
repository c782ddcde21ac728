"""The core and the three side folders come from one place, or nothing is measured."""

from importlib.util import find_spec
from pathlib import Path

from redundancy_eval.errors import SetupError

SIDES = ("model_wrappers", "tasks", "reports")


def check(side: str | Path) -> None:
    """Refuse a side folder of another checkout or installation than the core's.

    With the environment of one checkout, a command in the folder of another finds the core there and the side folders
    here; what it then measures is neither.

    Args:
        side: the `__file__` of model_wrappers, tasks or reports.

    Raises:
        SetupError: it lies neither beside the core (a checkout) nor inside it (a wheel).
    """
    core, folder = Path(__file__).parent.resolve(), Path(side).parent.resolve()  # files may be links of their own
    if folder.parent not in (core, core.parent):
        raise SetupError(
            f"two copies are mixed: the core is {core}, {folder.name} is {folder}; "
            f"leave {core.parent}, or install it: pip install -e {core.parent}"
        )


def check_all() -> None:
    """Refuse a core whose side folders are another's, or nowhere; none of them is imported.

    Raises:
        SetupError: so it is.
    """
    for name in SIDES:
        spec = find_spec(f"redundancy_eval.{name}")
        if spec is None or spec.origin is None:  # a checkout's core that was found first, where a wheel is installed
            here = Path(__file__).parent.resolve().parent
            raise SetupError(f"{name} is not beside the core in {here}; leave that folder, or: pip install -e {here}")
        check(spec.origin)
