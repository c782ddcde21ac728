"""The images of an lmms-eval task, without any model."""

from lmms_eval.tasks import TaskManager
from PIL import Image

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import pictures
from redundancy_eval.model_wrappers.hosts.lmms_eval.launch import task_folder


def spread(name: str, count: int) -> list[Image.Image]:
    """Images of a task's documents, evenly spread over it.

    Args:
        name: a single task's, not a group's.
        count: how many at most.

    Raises:
        SetupError: no such task, or its documents hold no images.
    """
    manager = TaskManager("ERROR", include_path=str(task_folder()))
    if name not in manager.all_subtasks:
        raise SetupError(f"no lmms-eval task {name!r} (a single task, not a group)")
    task = manager.load_task_or_group(name)[name]
    documents = task.test_docs() if task.has_test_docs() else task.validation_docs()
    step = max(1, len(documents) // count)
    images: list[Image.Image] = []
    for number in range(0, len(documents), step):
        with pictures.named(f"task {name}, document {number}"):
            shown = task.doc_to_visual(pictures.within(documents[number]))
            images += [pictures.eight_bits(v).convert("RGB") for v in shown if isinstance(v, Image.Image)]
        if len(images) >= count:
            break
    if not images:
        raise SetupError(f"the documents of {name} hold no images")
    return images[:count]
