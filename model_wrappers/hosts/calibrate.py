"""`redundancy-eval calibrate`: statistics of every encoder's output over a sample of images, for other ablations."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from tqdm import tqdm

from redundancy_eval import environment
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import pictures
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.masking import ablations, loading, native

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def main(
    model: str,
    arguments: Mapping[str, Any],
    out: Path,
    folder: Path | None,
    task: str | None,
    count: int,
    batch_size: int,
) -> int:
    """Make a calibration file; returns 0.

    Args:
        model: model id of a native family.
        arguments: its model arguments.
        out: the file.
        folder: take the images from it, in the order of their names.
        task: or take them from the documents of an lmms-eval task, evenly spread.
        count: how many.
        batch_size: images that go through the encoders at once.

    Raises:
        SetupError: a mask is given, there are no images, or the model can't be loaded.
    """
    if set(arguments) & {"drop", "keep", "ablation", "calibration"}:
        raise SetupError("a calibration is made of the full model: leave drop, keep, ablation and calibration out")
    if count < 1 or batch_size < 1:
        raise SetupError(f"--count and --batch_size must be positive; not {count} and {batch_size}")
    check_out(out)
    images = from_folder(folder, count) if folder is not None else from_task(str(task), count)
    subject = loading.load(model, arguments)
    pretrained = str(arguments.get("pretrained") or registry.family(model).default)
    made = ablations.calibrate(
        batches(subject, images, batch_size), model=model, checkpoint=pretrained, site=subject.site
    )
    ablations.write(made, out)
    print(f"{out}: {', '.join(subject.encoder_names)} over {made.identity['count']} different images, "
          f"sample {made.identity['sample']}")  # fmt: skip
    return 0


def check_out(out: Path) -> None:
    """Refuse to replace what no calibration wrote.

    Raises:
        SetupError: the file is there and is something else, or can't be written there.
    """
    if not out.name or out.is_dir():
        raise SetupError(f"-o {out} is no file name")
    if out.exists():
        try:
            ablations.identity(out)
        except SetupError:
            raise SetupError(f"-o {out} would write over a file that no calibration wrote; choose another") from None


def batches(
    subject: loading.Model, images: Sequence[Image.Image], size: int
) -> Iterator[tuple[list[ablations.Unit], dict[str, Tensor]]]:
    """Units and outputs of images, some at a time; an image that comes twice counts once."""
    distinct = list({ablations.image_hash(image): image for image in images}.items())
    step = size if isinstance(subject, native.MaskedModel) else 1
    for start in tqdm(range(0, len(distinct), step), desc="calibration"):
        part = distinct[start : start + step]
        outputs = subject.outputs([image for _, image in part])
        if isinstance(subject, native.MaskedModel):
            layouts = subject.model.layouts([image for _, image in part])
            counts = [subject.model.units(layout) for layout in layouts]
        else:
            counts = [len(next(iter(outputs.values())))]
        yield [(h, unit) for (h, _), count in zip(part, counts, strict=True) for unit in range(count)], outputs


def from_folder(folder: Path, count: int) -> list[Image.Image]:
    """The first images of a folder, by name.

    Raises:
        SetupError: it holds none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)[:count]
    if not paths:
        raise SetupError(f"no images ({', '.join(_SUFFIXES)}) in {folder}")
    images = []
    for path in paths:
        try:
            images.append(pictures.read(path))
        except pictures.UNREADABLE as error:
            raise SetupError(f"{path} is no image: {error}") from None
    return images


def from_task(name: str, count: int) -> list[Image.Image]:
    """Images of the documents of an lmms-eval task, evenly spread over it.

    Raises:
        SetupError: no such task, or its documents hold no images.
    """
    with environment.needed("calibrate --task", "lmms-eval"):
        from lmms_eval.tasks import TaskManager

    from redundancy_eval.model_wrappers.hosts.lmms_eval.launch import task_folder

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
