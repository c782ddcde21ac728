"""The one door to a model under a mask: arguments are checked, checkpoint and mask read, the weights loaded."""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from redundancy_eval import environment, masks, model_args, pruned, shown
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families import registry, templates
from redundancy_eval.model_wrappers.families.base import model_class
from redundancy_eval.model_wrappers.masking import checked_arguments, places, stand_ins
from redundancy_eval.model_wrappers.masking.hf import HfMaskedModel
from redundancy_eval.model_wrappers.masking.native import MaskedModel
from redundancy_eval.model_wrappers.masking.predicted import Layout
from redundancy_eval.model_wrappers.masking.prompt import Masked

log = logging.getLogger(__name__)

Model = MaskedModel | HfMaskedModel
OURS = (SetupError, DataError)
_GENERATION = "generation_config.json"
# Settings of generation that steer greedy answers too, and the value that does nothing.
_STEERING: Mapping[str, Any] = {
    "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0, "min_new_tokens": 0, "bad_words_ids": [],
    "suppress_tokens": [], "begin_suppress_tokens": [], "forced_bos_token_id": None, "forced_eos_token_id": None,
    "sequence_bias": {}, "guidance_scale": 1.0,
}  # fmt: skip
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def load(
    model_id: str, pretrained: str | None = None, drop: object = None, keep: object = None, **arguments: Any
) -> Model:
    """Load a checkpoint under a mask.

    Args:
        model_id: a family's, e.g. `eagle_masked`, or `hf_masked`.
        pretrained: hub id, folder, or `demo`; the family's default when None.
        drop: encoders to drop, joined by `+`, or `none`, or `all`.
        keep: encoders to keep instead.
        arguments: `device`, and those of `native_model` or `transformers_model` below; of a family also its own
            (Family.settings).

    Raises:
        SetupError: anything wrong with these arguments or the checkpoint, in one line.
    """
    given: dict[str, Any] = {"pretrained": pretrained, "drop": drop, "keep": keep, **arguments}
    checked_arguments.check(model_id, given)
    if model_id == registry.HF_MASKED:
        return transformers_model(**given)
    return native_model(model_id, **given)


def native_model(
    model_id: str,
    pretrained: str | None = None,
    drop: object = None,
    keep: object = None,
    *,
    ablation: str | None = None,
    calibration: str | None = None,
    ablation_seed: int = 0,
    site: str | None = None,
    dtype: str = "auto",
    device: str | torch.device | None = None,
    device_map: str | None = None,
    attn_implementation: str = "sdpa",
    conv_template: str | None = None,
    revision: str | None = None,
    long_prompt: str = "error",
    many_images: str = "error",
    **settings: Any,
) -> MaskedModel:
    """A checkpoint of a family under a mask; arguments beside those of `load`:

    Args:
        model_id: the family's.
        pretrained, drop, keep: see `load`.
        ablation: what stands in for a dropped encoder's output: `zero` (the default), `mean`, `noise`, `shuffle` or
            `predicted`.
        calibration: file of `redundancy-eval calibrate`, for all but `zero`.
        ablation_seed: of `noise` and `shuffle`.
        site: where it is put: `encoder` (as the output enters the fusion; the default) or, in families with a
            projector for each encoder, `projected` (after it).
        dtype: `auto`, `bfloat16`, `float16` or `float32`.
        device: torch device; a GPU when there is one.
        device_map: `auto` spreads the model over the devices that there are.
        attn_implementation: transformers' attention, e.g. `sdpa`, `eager`, `flash_attention_2`.
        conv_template: prompt template; by default the one that the checkpoint was trained with.
        revision: branch, tag or commit on the hub.
        long_prompt: `error` or `cut`.
        many_images: `error` or `first`.
        settings: the family's own (Family.settings).

    Raises:
        SetupError: anything wrong with these arguments or the checkpoint, in one line.
    """
    family = registry.family(model_id)
    folder = hub.locate(pretrained or family.default, revision)
    config = hub.read_config(folder)
    names, own = family.encoders(config), pruned.of_config(config, folder / "config.json")
    mask, stands_for = masks.dropped(names, drop, keep) if own is None else own.mask(drop, keep), pretrained
    if own is not None:
        mask = tuple(name for name in names if name in mask)  # sliced, it knows no other
        fixed = own.stand_ins({"ablation": ablation, "site": site, **settings})
        ablation, site, settings = fixed.pop("ablation"), fixed.pop("site"), fixed
        stands_for = own.source
        calibration = None if own.refitted else stand_ins.kept_constants(folder, own, calibration)
    ablation, site = ablation or "zero", site or "encoder"
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device_map not in (None, "", "auto"):
        raise SetupError(f"device_map must be auto; not {device_map!r}")
    number_format = choose_dtype(dtype, place)
    wanted = stand_ins.Wanted(model_id, stands_for or family.default, site)
    if own is not None:
        wanted = replace(wanted, weights=own.checkpoint)
    elif calibration and ablation != "zero":
        given = {"pretrained": pretrained, "revision": revision, **settings}
        wanted = replace(wanted, **stand_ins.bound_to(model_id, given, number_format))
    if own is not None and own.refitted:
        instead = stand_ins.refitted(folder, own)
    else:
        instead = stand_ins.read_ablation(ablation, calibration, ablation_seed, wanted, place)
    kind = model_class(family)
    run = kind.needed(names, mask, site, **settings)
    if number_format == torch.float32:
        # cuDNN's convolutions else round to TF32 (10 bits), and answers depend on the batch.
        torch.backends.cudnn.allow_tf32 = False
    model, tokenizer, _ = kind.load(folder, run, number_format, device_map or place, attn_implementation, **settings)
    if instead.predictor is not None:
        stand_ins.check_layout(instead.predictor, Layout.of(model.shapes("encoder"), model.place_sides()))
    template = templates.template(conv_template or model.template or told_template(tokenizer, folder))
    tell_unused(folder)
    eos = model.eos or all_end_tokens(folder, config, tokenizer)
    return MaskedModel(
        model,
        tokenizer,
        mask,
        template=template,
        eos=eos,
        long_prompt=long_prompt,
        many_images=many_images,
        site=site,
        settings=settings,
        ablation=instead,
    )


def transformers_model(
    pretrained: str | None = None,
    encoders: str = "",
    drop: object = None,
    keep: object = None,
    *,
    ablation: str = "zero",
    calibration: str | None = None,
    ablation_seed: int = 0,
    dtype: str = "auto",
    device: str | torch.device | None = None,
    device_map: str | None = None,
    attn_implementation: str | None = None,
    revision: str | None = None,
) -> HfMaskedModel:
    """A transformers model under a mask.

    Args:
        pretrained: hub id or folder of an image-text-to-text model.
        encoders: `NAME:MODULE.PATH+...`.
        drop: encoders to drop, joined by `+`, or `none`, or `all`.
        keep: encoders to keep instead.
        ablation: `zero`, `mean`, `noise`, `shuffle` or `predicted`.
        calibration: file of `redundancy-eval calibrate`, for all but `zero`.
        ablation_seed: of `noise` and `shuffle`.
        dtype: `auto`, `bfloat16`, `float16` or `float32`.
        device: torch device; a GPU when there is one.
        device_map: transformers' own, e.g. `auto`, instead of a device.
        attn_implementation: transformers' attention.
        revision: branch, tag or commit on the hub.

    Raises:
        SetupError: anything wrong with these arguments or the checkpoint, in one line.
    """
    if not pretrained:
        raise SetupError(
            f"{registry.HF_MASKED} needs pretrained= (a hub id or folder) and encoders=NAME:MODULE.PATH+..."
        )
    paths = registry.parse_encoders(encoders)
    mask = masks.dropped(tuple(paths), drop, keep)
    folder = hub.locate(pretrained, revision)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    number_format = choose_dtype(dtype, place)
    wanted = stand_ins.Wanted(registry.HF_MASKED, pretrained, HfMaskedModel.site)
    if calibration and ablation != "zero":
        given = {"pretrained": pretrained, "revision": revision, "encoders": encoders}
        wanted = replace(wanted, **stand_ins.bound_to(registry.HF_MASKED, given, number_format))
    instead = stand_ins.read_ablation(ablation, calibration, ablation_seed, wanted, place)
    settings: dict[str, Any] = {"dtype": number_format, "trust_remote_code": False}
    if attn_implementation:
        settings["attn_implementation"] = attn_implementation
    try:
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
        model = AutoModelForImageTextToText.from_pretrained(folder, device_map=device_map, **settings)
    except (ValueError, OSError, KeyError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SetupError(f"transformers cannot load {pretrained}: {reason}") from error
    if getattr(processor, "chat_template", None) is None:
        raise SetupError(f"the processor of {pretrained} has no chat template, so its prompt is not known")
    processor.tokenizer.padding_side = "left"
    if processor.tokenizer.pad_token is None:  # padding is masked out, so any token does
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    model = (model if device_map else model.to(place)).eval()
    return HfMaskedModel(model, processor, places=places.places_at(model, paths), mask=mask, ablation=instead)


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on a GPU and float32 on a CPU.

    Raises:
        SetupError: an unknown name.
    """
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    name = model_args.DTYPES.get(dtype, dtype)
    if name not in _DTYPES:
        raise SetupError(f"dtype must be one of auto, {', '.join(_DTYPES)}; not {dtype!r}")
    return _DTYPES[name]


def told_template(tokenizer: Any, folder: Path) -> str:
    """The template of a LLaVA-style checkpoint, as its tokenizer shows.

    Raises:
        SetupError: it was trained with one that is not known here, as the releases on Yi were.
    """
    found = templates.template_for(tokenizer)
    if found == "vicuna_v1" and "<|im_start|>" in tokenizer.get_vocab():
        raise SetupError(
            f"{folder}: its tokenizer has <|im_start|>, so it was trained with a template that is not known here; "
            f"conv_template= says which of {', '.join(templates.TEMPLATES)} to use instead"
        )
    return found


def end_tokens(folder: Path, config: Mapping[str, Any]) -> list[int]:
    """Token ids that end an answer: generation_config.json's, else config.json's.

    Raises:
        SetupError: they are no ids, or the file is damaged.
    """
    path = folder / _GENERATION
    found = hub.read_config(folder, _GENERATION).get("eos_token_id") if path.exists() else None
    where = path if found is not None else folder / "config.json"
    found = config.get("eos_token_id") if found is None else found
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if not all(isinstance(token, int) and not isinstance(token, bool) and token >= 0 for token in ids):
        raise SetupError(f"{where}: eos_token_id must be a token id, or a list of them; not {found!r}")
    return list(ids)


def all_end_tokens(folder: Path, config: Mapping[str, Any], tokenizer: Any) -> list[int]:
    """`end_tokens`, and the tokenizer's own: some releases have ids in their configs that are off by one.

    Raises:
        SetupError: there are none.
    """
    told, own = end_tokens(folder, config), tokenizer.eos_token_id
    if own is None and not told:
        raise SetupError(f"{folder}: neither its configs nor its tokenizer say which token ends an answer")
    if own is None or own in told:
        return told
    if told:
        log.warning(
            "%s: eos_token_id is %s; %s (%s), the tokenizer's end token, ends answers too", folder, told, own,
            tokenizer.eos_token,
        )  # fmt: skip
    return [*told, own]


def tell_unused(folder: Path) -> None:
    """Name settings of generation_config.json that would change greedy answers in transformers, and are not applied.

    How answers are drawn is said by the frameworks' tasks, the same for all models.
    """
    if not (folder / _GENERATION).exists():
        return
    told = hub.read_config(folder, _GENERATION)
    unused = [f"{key}={told[key]}" for key, idle in _STEERING.items() if told.get(key) not in (None, idle)]
    if unused:
        log.warning("%s: not applied to answers: %s", folder / _GENERATION, ", ".join(unused))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn our errors into one line and a non-zero exit: the frameworks exit 0 on any exception."""
    try:
        yield
    except OURS as error:
        _end(error)
    except ImportError as error:  # of what a family alone imports
        _end(SetupError(environment.explain("the model", "models", error)))


def _end(error: SetupError | DataError) -> NoReturn:
    print(f"redundancy-eval: error: {shown.line(error)}", file=sys.stderr, flush=True)
    raise SystemExit(error.exit_code) from error


def remarks(model: Masked) -> list[str]:
    """What was done to prompts so far, in a line for each kind."""
    kinds = (
        (model.cut, "prompts were cut at the model's length limit"),
        (model.first, "prompts have too many images for the model; the first were kept"),
        (
            model.moved,
            "prompts have image tags that are words, or that do not fit their images, which were put in front",
        ),
        (model.known, "prompts show images that the calibration was made of (no question or label was looked at)"),
    )
    said = [f"{len(names)} {what}: {', '.join(map(shown.text, names))}" for names, what in kinds if names]
    return said + feeding(model.feeds())


def feeding(feeds: Sequence[str]) -> list[str]:
    """A line on each dropped encoder that a kept one sees through (`sam feeds clip`)."""
    return [
        f"{text}: dropping it changes what the other sees too, so what is lost is not its own share alone"
        for text in feeds
    ]
