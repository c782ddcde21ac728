"""The core and the three side folders come from one place, or nothing is measured."""

from pathlib import Path

from redundancy_eval.errors import SetupError


def check(side: str | Path) -> None:
    """Refuse a side folder of another checkout or installation than the core's.

    With the environment of one checkout, a command in the folder of another finds the core there and the side folders
    here; what it then measures is neither.

    Args:
        side: the `__file__` of model_wrappers, tasks or reports.

    Raises:
        SetupError: it lies neither beside the core (a checkout) nor inside it (a wheel).
    """
    core, folder = Path(__file__).resolve().parent, Path(side).resolve().parent
    if folder.parent not in (core, core.parent):
        raise SetupError(
            f"two copies are mixed: the core is {core}, {folder.name} is {folder}; "
            f"leave {core.parent}, or install it: pip install -e {core.parent}"
        )
