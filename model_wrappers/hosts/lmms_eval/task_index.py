"""lmms-eval's index of its tasks, read quickly and once for all masks.

It reads some 2,000 YAML files, many of them again for each that includes them, with PyYAML's parser in Python; the one
in C (libyaml) gives the same in an eighth of the time. What a task's own file holds is read by lmms-eval's own means
all the same, when the task is made.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from lmms_eval.tasks import TaskManager


@contextmanager
def read_once() -> Iterator[None]:
    """Within, an index is read once for each list of folders; anew for each mask it would take most of the time."""
    original: Any = TaskManager.initialize_tasks
    known: dict[str, Any] = {}

    def initialize_tasks(self: TaskManager, include_path: Any = None, include_defaults: bool = True) -> Any:
        key = repr((include_path, include_defaults))
        if key not in known:
            with _in_c():
                known[key] = original(self, include_path, include_defaults)
        return dict(known[key])  # lmms-eval changes none of the entries

    TaskManager.initialize_tasks = initialize_tasks
    try:
        yield
    finally:
        TaskManager.initialize_tasks = original


@contextmanager
def _in_c() -> Iterator[None]:
    """Within, YAML files are parsed in C, where PyYAML was built with libyaml; their functions are not looked up."""
    fast: Any = getattr(yaml, "CFullLoader", None)
    if fast is None:
        yield
        return
    loader: Any = type("Loader", (fast,), {})
    loader.add_constructor("!function", lambda _, node: node)  # lmms_eval/utils.py, `ignore_constructor`
    original = yaml.full_load
    yaml.full_load = lambda stream: yaml.load(stream, loader)
    try:
        yield
    finally:
        yaml.full_load = original
