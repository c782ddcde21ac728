"""Pictures as models take them: whole, and of 8 bits; one that cannot be read is named.

Pillow's conversion to RGB cuts values at 255, so pictures of 16 bits (medical, depth, scans) become white; here they
are scaled. The original models' code shows them white.
"""

import binascii
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from redundancy_eval.errors import DataError, SetupError

UNREADABLE = (
    OSError, SyntaxError, EOFError, struct.error, zlib.error, binascii.Error, Image.DecompressionBombError,
)  # fmt: skip
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_HALF, _WHOLE = 2**15 - 1, 2**16 - 1
# Whose wide integers are 16 bits; a TIFF's may be anything.
_SIXTEEN_BITS = ("PNG", "PPM")


# Of a model that reads pictures itself.
DEEP = "documents have pictures of more than 8 bits, which the base model may show white"


@contextmanager
def named(where: str, mend: str = "") -> Iterator[None]:
    """Name what a picture that cannot be read belongs to; one that is cut short is none that can be.

    Args:
        where: task and document, or the file.
        mend: what to do about it.

    Raises:
        DataError: a picture cannot be read.
    """
    # lmms-eval lets Pillow fill what is missing of a picture with grey, without a word.
    filled, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    except UNREADABLE as error:
        reason = "it is none, or of an unknown kind" if isinstance(error, UnidentifiedImageError) else str(error)
        reason = (reason.strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{where}: the picture cannot be read ({reason}){mend and '; '}{mend}") from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = filled


def read(path: str | Path) -> Image.Image:
    """The picture in a file, as RGB.

    Raises:
        OSError: (or another of UNREADABLE) it cannot be read.
    """
    with Image.open(path) as image:
        return eight_bits(image).convert("RGB")


def eight_bits(image: Image.Image) -> Image.Image:
    """The picture decoded, and scaled to 8 bits where it has more; else itself.

    Raises:
        OSError: it is damaged, or what its values mean is not known.
    """
    try:
        image.load()
    except ValueError as error:
        raise OSError(str(error)) from error
    if image.mode == "La":  # which Pillow converts to LA alone
        return image.convert("LA")
    if image.mode.startswith("I;16"):
        return _scaled(np.asarray(image))
    if image.mode == "I":
        values = np.asarray(image)
        least, most = int(values.min()), int(values.max())
        if least >= 0 and most <= _WHOLE and (most > 255 or image.format in _SIXTEEN_BITS):
            return _scaled(values)
    if image.mode in ("I", "F"):
        low, high = image.getextrema()
        raise OSError(
            f"mode {image.mode} with values from {low} to {high}: which is white is not known; save it as 8 bits"
        )
    return image


def _scaled(values: Any) -> Image.Image:
    return Image.fromarray(((values.astype(np.uint32) * 255 + _HALF) // _WHOLE).astype(np.uint8))


def within(value: Any) -> Any:
    """A document whose pictures are decoded and of 8 bits; itself where they are already.

    Raises:
        OSError: see `eight_bits`.
    """
    if isinstance(value, Image.Image):
        return eight_bits(value)
    if isinstance(value, dict):
        new = {key: within(part) for key, part in value.items()}
        return new if any(new[key] is not value[key] for key in value) else value
    if isinstance(value, list):
        parts = [within(part) for part in value]
        return parts if any(a is not b for a, b in zip(parts, value, strict=True)) else value
    return value


def in_folder(folder: Path, count: int) -> list[Image.Image]:
    """The first pictures of a folder, by name.

    Raises:
        SetupError: it holds none, or one that cannot be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)[:count]
    if not paths:
        raise SetupError(f"no images ({', '.join(_SUFFIXES)}) in {folder}")
    images = []
    for path in paths:
        try:
            images.append(read(path))
        except UNREADABLE as error:
            raise SetupError(f"{path} is no image: {error}") from None
    return images
