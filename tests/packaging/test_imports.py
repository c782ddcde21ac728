"""The rooms of the house: who may import whom, over the syntax tree (README, "How it is built")."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = "redundancy_eval"
SIDE = f"{CORE}.model_wrappers"
FOLDERS = {
    "redundancy_eval": CORE, "model_wrappers": SIDE, "tasks": f"{CORE}.tasks", "reports": f"{CORE}.reports"
}  # fmt: skip
# Lowest first: a module imports its own floor and those below. What is not named (process, pictures, the core, reports
# and task files) is below all.
FLOORS = (
    {"checkpoints"}, {"encoders"}, {"families"}, {"masking"}, {"costs", "diagnostics", "prune"}, {"sweeps"}, {"hosts"},
    {"commands", "api"}, {"cli", "__main__"},
)  # fmt: skip
TORCH = {"torch", "torchvision", "transformers", "timm", "accelerate"}
TORCH_FREE = ("card", "registry")  # of families
TABLES = (f"{SIDE}.families.registry", f"{SIDE}.hosts.frameworks")  # which name what there is


def modules():
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts))), path


MODULES = dict(modules())


def imports(path):
    """Dotted names of what a module imports anywhere, and whether as it is loaded itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    within = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in within) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield (name if name in MODULES else node.module), id(node) not in within


def floor(module):
    inside = module.startswith(f"{SIDE}.")
    room = module.removeprefix(f"{SIDE}." if inside else f"{CORE}.").partition(".")[0]
    found = next((number for number, rooms in enumerate(FLOORS) if room in rooms), -1)
    return found if inside == (found < 7) else -1


def every():
    return [(name, imported) for name, path in MODULES.items() for imported, _ in imports(path)]


def test_the_rooms_are_there():
    rooms = {name.split(".")[2] for name in MODULES if name.startswith(f"{SIDE}.")}
    known = set().union(*FLOORS)
    # What stands in no room is below all and must not look up: it is named here.
    assert rooms - known == {"demo_checkpoint", "pictures", "process"}
    assert len(MODULES) > 150


def test_nothing_imports_upwards():
    wrong = [
        (name, imported)
        for name, imported in every()
        # The public names are imported when they are first used.
        if imported in MODULES and floor(imported) > floor(name) and (name, imported) != (CORE, f"{CORE}.api")
    ]
    assert wrong == []


def test_families_frameworks_and_commands_do_not_know_each_other():
    wrong = []
    for room in (f"{SIDE}.families", f"{SIDE}.hosts", f"{CORE}.commands"):
        for name, imported in every():
            if not (name.startswith(f"{room}.") and imported.startswith(f"{room}.")) or name in TABLES:
                continue
            mine, theirs = (each.removeprefix(f"{room}.").partition(".")[0] for each in (name, imported))
            shared = room != f"{CORE}.commands" and f"{room}.{theirs}" == imported  # a module of the room, for all
            if mine != theirs and (not shared or (ROOT / "model_wrappers" / room.rpartition(".")[2] / theirs).is_dir()):
                wrong.append((name, imported))
    assert wrong == []


def test_statistics_and_reports_know_tables_and_no_reader():
    rooms = tuple(f"{CORE}.{room}" for room in ("statistics", "uncertainty", "reports", "table", "metrics"))
    wrong = [
        (name, imported)
        for name, imported in every()
        if name.startswith(rooms) and imported.startswith((f"{CORE}.readers", f"{CORE}.scores", f"{CORE}.runs"))
    ]
    assert wrong == []


@pytest.mark.parametrize("name", TORCH_FREE)
def test_what_is_known_of_families_needs_no_torch(name):
    found = [module for module in MODULES if module.startswith(f"{SIDE}.families.") and module.endswith(f".{name}")]
    assert found
    reached, waiting = set(), list(found)
    while waiting:
        module = waiting.pop()
        for imported, at_once in imports(MODULES[module]):
            assert not at_once or imported.partition(".")[0] not in TORCH, f"{module} imports {imported}"
            if at_once and imported in MODULES and imported not in reached:
                reached.add(imported)
                waiting.append(imported)


def test_recordings_know_no_mask():
    wrong = [
        (name, imported)
        for name, imported in every()
        if name.endswith(".recording") and imported.startswith(f"{SIDE}.masking")
    ]
    assert wrong == []


def test_no_module_is_long():
    long = {name: lines for name, path in MODULES.items() if (lines := len(path.read_text().splitlines())) > 400}
    assert long == {}
