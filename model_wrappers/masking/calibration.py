"""Statistics of every encoder's output over a sample of images, as a file for ablation=mean, noise and shuffle."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from tqdm import tqdm

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.masking import ablations, loading
from redundancy_eval.model_wrappers.masking.native import MaskedModel
from redundancy_eval.model_wrappers.masking.prompt import Masked


def make(model: str, arguments: Mapping[str, Any], images: Sequence[Image.Image], batch_size: int, out: Path) -> str:
    """Make a calibration file; returns a line on it.

    Args:
        model: model id.
        arguments: its model arguments, without a mask.
        images: the sample.
        batch_size: images that go through the encoders at once.
        out: the file; see `check_out`.

    Raises:
        SetupError: the model can't be loaded, or is not whole.
    """
    own = registry.pruned_of(model, arguments)
    if own is not None:
        raise SetupError(
            f"{arguments.get('pretrained')} was pruned of {own.label}: a calibration is made of the whole model, "
            f"{own.source}"
        )
    subject = loading.load(model, **arguments)
    pretrained = str(arguments.get("pretrained") or registry.family(model).default)
    made = ablations.calibrate(
        batches(subject, images, batch_size), model=model, checkpoint=pretrained, site=subject.site
    )
    ablations.write(made, out)
    names = ", ".join(subject.encoder_names)
    return f"{out}: {names} over {made.identity['count']} different images, sample {made.identity['sample']}"


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
    subject: Masked, images: Sequence[Image.Image], size: int
) -> Iterator[tuple[list[ablations.Unit], dict[str, Tensor]]]:
    """Units and outputs of images, some at a time; an image that comes twice counts once."""
    distinct = list({ablations.image_hash(image): image for image in images}.items())
    step = size if isinstance(subject, MaskedModel) else 1
    for start in tqdm(range(0, len(distinct), step), desc="calibration"):
        part = distinct[start : start + step]
        outputs = subject.outputs([image for _, image in part])
        if isinstance(subject, MaskedModel):
            layouts = subject.model.layouts([image for _, image in part])
            counts = [subject.model.units(layout) for layout in layouts]
        else:
            counts = [len(next(iter(outputs.values())))]
        yield [(h, unit) for (h, _), count in zip(part, counts, strict=True) for unit in range(count)], outputs
