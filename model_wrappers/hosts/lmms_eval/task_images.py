"""The images of an lmms-eval task, without any model."""

import io
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from lmms_eval.tasks import TaskManager
from loguru import logger
from PIL import Image

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import pictures
from redundancy_eval.model_wrappers.hosts.lmms_eval import task_index
from redundancy_eval.model_wrappers.hosts.lmms_eval.launch import task_folder
from redundancy_eval.statistics import draws


def spread(name: str, count: int) -> list[Image.Image]:
    """Images of a task's documents, evenly spread over it.

    Args:
        name: a single task's, not a group's.
        count: how many at most.

    Raises:
        SetupError: no such task, or its documents hold no images.
    """
    task, documents = _loaded(name)
    images: list[Image.Image] = []
    for number in draws.stretches(len(documents), count, f"calibration|{name}"):
        with pictures.named(f"task {name}, document {number}"):
            images += _shown(task, documents[number])
        if len(images) >= count:
            break
    if not images:
        raise SetupError(f"the documents of {name} hold no images")
    return images[:count]


def encoded(name: str) -> Callable[[str], bytes | None]:
    """The first image of each document (by `doc_id`) of a task as PNG, as its data set is on this machine.

    None for documents without one. The task is loaded when the first image is asked for.
    """

    @cache
    def loaded() -> tuple[Any, Any]:
        return _loaded(name)

    def picture(document: str) -> bytes | None:
        task, documents = loaded()
        if not document.isdigit() or int(document) >= len(documents):
            return None
        with pictures.named(f"task {name}, document {document}"):
            images = _shown(task, documents[int(document)])
        if not images:
            return None
        buffer = io.BytesIO()
        images[0].save(buffer, "png")
        return buffer.getvalue()

    return picture


def _loaded(name: str) -> tuple[Any, Any]:
    """A task and its documents."""
    logger.disable("lmms_eval")  # it tells of each task file that it does not understand
    try:
        manager = _manager()
        if name not in manager.all_subtasks:
            raise SetupError(f"no lmms-eval task {name!r} (a single task, not a group)")
        task = manager.load_task_or_group(name)[name]
        return task, task.test_docs() if task.has_test_docs() else task.validation_docs()
    except SetupError:
        raise
    except Exception as error:  # of the data set's own code, a hub that is not reached, a login that is wanted
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SetupError(f"the documents of {name} cannot be loaded: {reason}") from error
    finally:
        logger.enable("lmms_eval")


@lru_cache(maxsize=1)
def _manager() -> TaskManager:
    with task_index.read_once():
        return TaskManager("ERROR", include_path=str(task_folder()))


def _shown(task: Any, document: Any) -> list[Image.Image]:
    shown = task.doc_to_visual(pictures.within(document))
    return [pictures.eight_bits(v).convert("RGB") for v in shown if isinstance(v, Image.Image)]
