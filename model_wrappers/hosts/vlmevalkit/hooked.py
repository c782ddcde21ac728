"""Any model that VLMEvalKit already knows, masked by hooks on what it wraps (`--model masked`).

    --model masked --model_args "base=llava_v1.5_7b,encoders=clip:model.model.vision_tower,drop=clip"

Module paths start at VLMEvalKit's model object. Arguments other than these go to its class.
"""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from vlmeval.config import supported_VLM
from vlmeval.vlm.base import BaseModel

from redundancy_eval import masks
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.hosts.vlmevalkit.model import fatal_errors, name_rows, pictures
from redundancy_eval.model_wrappers.masking import hooks, places
from redundancy_eval.model_wrappers.masking.loading import feeding
from redundancy_eval.model_wrappers.pictures import DEEP


class HookedVlm(BaseModel):
    """A model of VLMEvalKit whose encoders' outputs are replaced by zeros while it answers.

    Args:
        arguments: `base`, `encoders`, `drop` or `keep`, and what the base takes.
        bases: base models that were made already, to be used again.
    """

    def __init__(self, arguments: Mapping[str, str], bases: dict[str, Any] | None = None):
        super().__init__()
        own = ("base", "encoders", "drop", "keep", "ablation")
        name = arguments.get("base", "")
        with fatal_errors(f"loading {name or 'the base model'}"):
            if name not in supported_VLM or name == registry.MASKED:
                raise SetupError(f"masked needs base=<name in VLMEvalKit's supported_VLM>; {name!r} is none")
            if arguments.get("ablation", "zero") != "zero":
                raise SetupError("masked knows ablation=zero only, as rows are not known by image here")
            paths = registry.parse_encoders(arguments.get("encoders"))
            self.mask = masks.dropped(tuple(paths), arguments.get("drop"), arguments.get("keep"))
            self.mask_label = masks.label(self.mask, tuple(paths))
            rest = {key: _value(text) for key, text in arguments.items() if key not in own}
            bases = {} if bases is None else bases
            key = repr((name, sorted(rest.items())))
            if key not in bases:
                bases[key] = supported_VLM[name](**rest)
            self.base = bases[key]
            if getattr(self.base, "is_api", False):
                raise SetupError(f"{name} is behind an API: nothing of it can be masked from here")
            self.places = places.places_at(self.base, paths)
        self.deep: list[str] = []
        self.feeds: dict[str, tuple[str, ...]] | None = None if self.mask else {}
        self.INTERLEAVE = self.base.INTERLEAVE
        self.allowed_types = self.base.allowed_types

    def set_dump_image(self, dump_image_func: Any) -> None:
        """Called before each data set."""
        name_rows(dump_image_func.__self__)
        dump_image = dump_image_func.__self__.dump_image
        super().set_dump_image(dump_image)
        self.base.set_dump_image(dump_image)

    def use_custom_prompt(self, dataset: str) -> bool:
        """The base's."""
        return bool(self.base.use_custom_prompt(dataset))

    def build_prompt(self, line: Any, dataset: str) -> Any:
        """The base's."""
        return self.base.build_prompt(line, dataset)

    def generate_inner(self, message: Any, dataset: str | None = None) -> str:
        """The base's answer under the mask."""
        dropped = {name: self.places[name] for name in self.mask}
        hooked = hooks.Hooks(dropped, lambda name, number, output: torch.zeros_like(output))
        with fatal_errors(f"drop={self.mask_label} on {dataset}"):
            self._check_pictures([str(part["value"]) for part in message if part["type"] == "image"])
            with hooked:
                reply = self.base.generate_inner(message, dataset)
            if any(part["type"] == "image" for part in message):
                hooked.check(self._learn(message, dataset))
        return str(reply)

    def _check_pictures(self, paths: Sequence[str]) -> None:
        """Name what the base would not: pictures that cannot be read, and those that it may show white."""
        pictures(paths)
        for path in paths:
            with Image.open(path) as image:
                self.deep += [Path(path).name] * image.mode.startswith(("I", "F"))

    def _learn(self, message: Any, dataset: str | None) -> dict[str, tuple[str, ...]]:
        """Which encoders see through others; found out with the first message that has an image."""
        if self.feeds is None:
            self.feeds = hooks.feeds(self.places, lambda: self.base.generate_inner(message, dataset))
            run_record.tell_feeds(self._fed())
        return self.feeds

    def _fed(self) -> list[str]:
        return hooks.told(self.mask, self.feeds or {})

    def remarks(self) -> list[str]:
        """What to say when all is done."""
        deep = [f"{len(self.deep)} {DEEP}: {', '.join(self.deep)}"] if self.deep else []
        return deep + feeding(self._fed())


def _value(text: str) -> Any:
    """`16` -> 16, `False` -> False, `['a']` -> a list; else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
