"""Any model that lmms-eval already knows, masked by hooks on what it wraps (`--model masked`).

    --model masked --model_args "base=llava_hf,encoders=clip:model.model.vision_tower,drop=clip,pretrained=...,..."

Module paths start at lmms-eval's model object. Arguments other than these are passed on to it. `hf_masked` is the
better way where it can be had: there the prompt and the images of each row are known.
"""

import copy
from typing import Any

import torch
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.models import get_model
from loguru import logger
from torch import Tensor

from redundancy_eval import masks
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import pictures
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.masking import checked_arguments, hooks, places
from redundancy_eval.model_wrappers.masking.dice import Dice
from redundancy_eval.model_wrappers.masking.loading import feeding, one_line_errors


class Hooked(lmms):
    """A wrapped lmms-eval model; requests go to it while its encoders' outputs are replaced."""

    is_simple = True

    def __init__(
        self,
        base: str = "",
        encoders: str = "",
        drop: object = None,
        keep: object = None,
        ablation: str = "zero",
        **settings: Any,
    ):
        super().__init__()
        with one_line_errors():
            if not base or base == registry.MASKED:
                raise SetupError("masked needs base=<model id of lmms-eval> and encoders=NAME:MODULE.PATH+...")
            if ablation != "zero":
                raise SetupError(
                    f"masked knows ablation=zero only, as rows are not known by image here; not {ablation!r}"
                )
            checked_arguments.check(registry.MASKED, {"drop": drop, "keep": keep})
            paths = registry.parse_encoders(encoders)
            self.encoder_names = tuple(paths)
            self.mask = masks.dropped(self.encoder_names, drop, keep)
            self.base = self._build(base, settings)
            self.places = places.places_at(self.base, paths)
        self.is_simple = self.base.is_simple  # lmms-eval asks the instance what requests it takes
        self.probed = not self.mask
        self.feeds: dict[str, tuple[str, ...]] = {}
        logger.info(f"masked: base={base}, drop={masks.label(self.mask, self.encoder_names)}")

    def _build(self, base: str, settings: dict[str, Any]) -> Any:
        try:
            return class_of(base)(
                **{key: value for key, value in settings.items() if key != "max_batch_size" or value is not None}
            )
        except SetupError:
            raise
        except Exception as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            raise SetupError(f"lmms-eval's {base} cannot be made: {type(error).__name__}: {reason}") from error

    def __getattr__(self, name: str) -> Any:
        # What lmms-eval asks of a model and this class does not define (device, accelerator, rank, ...) is the base's.
        if name == "base":
            raise AttributeError(name)
        return getattr(self.base, name)

    @property
    def rank(self) -> int:
        """The base's."""
        return int(self.base.rank)

    @property
    def world_size(self) -> int:
        """The base's."""
        return int(self.base.world_size)

    def clean(self) -> None:
        """Free the base model."""
        self.places.clear()
        self.base.clean()

    def generate_until(self, requests: list[Instance]) -> list[Any]:
        """Answers of the base model under the mask."""
        return list(self._ask("generate_until", requests))

    def loglikelihood(self, requests: list[Instance]) -> list[Any]:
        """Likelihoods of the base model under the mask."""
        return list(self._ask("loglikelihood", requests))

    def generate_until_multi_round(self, requests: list[Instance]) -> list[Any]:
        """Answers of the base model under the mask."""
        return list(self._ask("generate_until_multi_round", requests))

    def _ask(self, kind: str, requests: list[Instance]) -> Any:
        self.base.task_dict = self.task_dict
        self.base._rank, self.base._world_size = self._rank, self._world_size
        with one_line_errors():
            self._check_pictures(requests)
            if not self.probed:
                dice = Dice()
                self._probe(kind, requests)
                dice.put_back()  # so that a model that draws its answers draws the same, whatever was put before
            hooked = self._hooks()
            with hooked:
                answers = self._put(kind, requests, hooked)
            if any(map(self._has_images, requests)):
                hooked.check(self.feeds)
        return answers

    def _put(self, kind: str, requests: list[Instance], hooked: hooks.Hooks) -> Any:
        """Put requests to the base model, under hooks."""
        return getattr(self.base, kind)(requests)

    def _check_pictures(self, requests: list[Instance]) -> None:
        """Name what the base would not: pictures that cannot be read, and those that it may show white."""
        deep = []
        for doc_id, task, split in dict.fromkeys(request.args[-3:] for request in requests):
            with pictures.named(f"task {task}, document {doc_id}"):
                document = self.task_dict[task][split][doc_id]
                if pictures.within(document) is not document:
                    deep.append(f"{task} {doc_id}")
        if deep:
            logger.warning(f"{len(deep)} {pictures.DEEP}: {', '.join(deep)}")

    def _hooks(self) -> hooks.Hooks:
        def replace(name: str, number: int, output: Tensor) -> Tensor:
            return torch.zeros_like(output)

        return hooks.Hooks({name: self.places[name] for name in self.mask}, replace)

    def _probe(self, kind: str, requests: list[Instance]) -> None:
        """One request with images first, so that a wrong module is found before hours of answers.

        It tells too which encoders see through others.
        """
        probe = next((request for request in requests if self._has_images(request)), None)
        if probe is None:
            return

        def ask() -> None:
            getattr(self.base, kind)([copied(probe)])

        hooked = self._hooks()
        with hooked:
            ask()
        hooked.check(self.feeds)
        self.probed = True
        self.feeds = hooks.feeds(self.places, ask)
        fed = hooks.told(self.mask, self.feeds)
        run_record.tell_feeds(fed)
        for line in feeding(fed):
            logger.warning(f"drop={masks.label(self.mask, self.encoder_names)}: {line}")

    def _has_images(self, request: Instance) -> bool:
        *_, doc_id, task, split = request.args
        document = self.task_dict[task][split][doc_id]
        for argument in request.args[1:4]:
            if callable(argument):
                found = argument(document)
                messages = found if isinstance(found, list) else []
                return any(not isinstance(m, dict) or _shows(m) for m in messages)
        return False


def class_of(base: str) -> type[lmms]:
    """The class of a model id of lmms-eval's.

    Raises:
        SetupError: it does not exist, or a requirement of it is not installed.
    """
    try:
        found: type[lmms] = get_model(base)
    except Exception as error:
        raise SetupError(f"lmms-eval has no working model {base!r}: {str(error).strip().splitlines()[0]}") from error
    return found


def copied(request: Instance) -> Instance:
    """A request whose settings may be changed, as wrappers do; not its task, with all its documents."""
    other = copy.copy(request)
    other.arguments = tuple(copy.deepcopy(part) if isinstance(part, dict) else part for part in request.args)
    return other


def _shows(message: dict[str, Any]) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(part.get("type") == "image" for part in content if isinstance(part, dict))
