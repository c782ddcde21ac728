"""How recordings of the original Two Towers call things (for `redundancy-eval parity`)."""

from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image
from torch import Tensor

from redundancy_eval.model_wrappers.encoders.pixels import resize
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.recording import Check, Recording, Subject, by_name, same, same_pixels
from two_towers.model import TwoTowers


class TwoTowersRecording(Recording[TwoTowers]):
    """Conditions are the usual ones: `nomask`, `zero:vit`, `zero:convnext`, `all_masked`."""

    def check_prompt(self, name: str, entry: Mapping[str, Any], model: TwoTowers, tokenizer: Any) -> Iterator[Check]:
        """Prompt and token ids of an input."""
        template = templates.template(model.template)
        text = template.render(entry["messages"])
        yield same(f"{name} prompt text", text, entry["prompt"])
        yield same(f"{name} token ids", templates.tokenize(tokenizer, text, template), entry["input_ids"])

    def check_pixels(
        self, name: str, entry: Mapping[str, Any], stats: Mapping[str, Any], model: TwoTowers, image: Image.Image
    ) -> Iterator[Check]:
        """Pixels of an input."""
        pixels = model.preprocess([image], model.encoder_names)["shared"][0]
        yield from same_pixels(name, resize(image, model.image_size), pixels, stats.get(f"{name}/pixel_values"))

    def tensors(self, subject: Subject[TwoTowers], image: Image.Image) -> dict[str, Tensor]:
        """What a recording may hold of the encoders and the fusion."""
        projected = subject.projected([image])
        return {
            **by_name("encoder", subject.features([image]), subject.model),
            "image_embeds": subject.model.fuse(projected, [None])[0].embeddings,
        }
