"""The model families: what they are called, which encoders a checkpoint has, and what is published; no torch needed.

This is the one table that the framework plug-ins, `redundancy-eval models` and the readers look into. A family's
computation lives in the module named by `module`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redundancy_eval import masks
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families import config_keys


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint: hub id, encoders in its order, prompt template, licence of the weights."""

    hub_id: str
    encoders: tuple[str, ...]
    template: str
    licence: str


@dataclass(frozen=True)
class Published:
    """How the paper's authors ran a family in VLMEvalKit, as far as their code shows.

    `arguments` are model arguments; `generation` transformers' settings (greedy when empty); all images stand in front,
    `joint` between the texts of a message; `one_image` drops all but the first; with `own_choice_wording` multiple
    choice is worded by the wrapper, not by VLMEvalKit.
    """

    arguments: Mapping[str, str]
    generation: Mapping[str, Any]
    max_new_tokens: int
    joint: str
    one_image: bool
    own_choice_wording: bool


@dataclass(frozen=True)
class Family:
    """A model family that can be masked.

    `encoders` reads the encoder names, in order, from a checkpoint's config; it raises SetupError for a config of
    another family. `keys` are those that its config may have, told from the config. `module` holds the computation
    (its `MODEL`, a family_model.FamilyModel, and `load`), `recorded`
    reads recorded tensors for `parity`; `settings` are the family's own model arguments, with their meaning. `costs`
    are the released encoders' parameters in millions and GFLOPs (2 per multiply-add) for an image or tile, counted on
    the meta device; `skipped` says when a dropped encoder is not run; `published` is None where the authors' code for
    masking the family was not found; `repositories` reads from a config where the encoders' weights are, if they do not
    lie in the checkpoint.
    """

    model_id: str
    title: str
    module: str
    default: str
    encoders: Callable[[Mapping[str, Any]], tuple[str, ...]]
    keys: Callable[[Mapping[str, Any]], config_keys.Keys]
    checkpoints: tuple[Checkpoint, ...]
    sites: tuple[str, ...]
    checked_with: str
    recorded: str
    costs: Mapping[str, tuple[float, float]]
    skipped: str
    settings: Mapping[str, str] = field(default_factory=dict)
    published: Published | None = None
    repositories: Callable[[Mapping[str, Any]], Mapping[str, str]] | None = None


# Name of an encoder of Cambrian-1 -> the hub repository of its weights.
CAMBRIAN_REPOSITORIES = {
    "siglip": "timm/ViT-SO400M-14-SigLIP-384",
    "clip": "openai/clip-vit-large-patch14-336",
    "dinov2": "facebook/dinov2-giant",
    "convnext": "laion/CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg-soup",
}
IMOF_DINO = "facebook/dinov2-large"  # named in I-MoF's code, not in its config


def cambrian_repositories(config: Mapping[str, Any]) -> dict[str, str]:
    """The hub repository of each encoder of Cambrian-1."""
    return CAMBRIAN_REPOSITORIES


def imof_repositories(config: Mapping[str, Any]) -> dict[str, str]:
    """The hub repository of each encoder of I-MoF."""
    return dict(zip(imof_encoders(config), (config["mm_vision_tower"], IMOF_DINO), strict=True))


HOOKED = ("hf_masked", "masked")  # models whose encoders are told by the argument `encoders`
ABLATIONS = ("zero", "mean", "noise", "shuffle")  # what may stand in for a dropped encoder (ablations.py), anywhere

# Kind of tower in Eagle's `mm_vision_tower` -> name of the encoder.
EAGLE_TOWERS = {"clip": "clip", "convnext": "convnext", "sam": "sam", "det": "eva02", "pix2struct": "pix2struct"}


def eagle_towers(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Entries of Eagle's `mm_vision_tower`; the original code passes over empty ones (`"convnext-1024;"`)."""
    return tuple(tower for tower in str(config.get("mm_vision_tower")).split(";") if tower)


def eagle_encoders(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Encoders of an Eagle X checkpoint, in the order of its `mm_vision_tower`.

    Raises:
        SetupError: no Eagle X config, an unknown tower, or one encoder named twice.
    """
    listed = config.get("mm_vision_tower")
    if config.get("model_type") != "eagle_llama" or not isinstance(listed, str):
        raise SetupError(
            f"not an Eagle X checkpoint: model_type is {config.get('model_type')!r} (expected 'eagle_llama') "
            f"and mm_vision_tower is {listed!r}"
        )
    kinds = [tower.partition("-")[0] for tower in eagle_towers(config)]
    if not kinds:
        raise SetupError(f"mm_vision_tower names no encoder: {listed!r}")
    unknown = [kind for kind in kinds if kind not in EAGLE_TOWERS]
    if unknown:
        raise SetupError(
            f"unknown tower {unknown[0]!r} in mm_vision_tower {listed!r}; known: {', '.join(EAGLE_TOWERS)}"
        )
    if len(set(kinds)) != len(kinds):
        raise SetupError(f"mm_vision_tower names an encoder twice: {listed!r}")
    return tuple(EAGLE_TOWERS[kind] for kind in kinds)


# Beginning of an entry of Cambrian's `mm_vision_tower_aux_list` -> name of the encoder.
CAMBRIAN_TOWERS = {
    "siglip/": "siglip", "openai/clip": "clip", "facebook/dinov2": "dinov2", "clip-convnext": "convnext",
}  # fmt: skip


def cambrian_encoders(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Encoders of a Cambrian-1 checkpoint, in the order of its `mm_vision_tower_aux_list`.

    Raises:
        SetupError: no Cambrian-1 config, an unknown tower, or one encoder named twice.
    """
    listed = config.get("mm_vision_tower_aux_list")
    if config.get("mm_projector_type") != "sva" or not isinstance(listed, list):
        raise SetupError(
            f"not a Cambrian-1 checkpoint: mm_projector_type is {config.get('mm_projector_type')!r} (expected 'sva') "
            f"and mm_vision_tower_aux_list is {listed!r}"
        )
    names: list[str] = []
    if not listed or not all(isinstance(tower, str) for tower in listed):
        raise SetupError(f"mm_vision_tower_aux_list must be a list of towers; not {listed!r}")
    for tower in listed:
        name = next((name for start, name in CAMBRIAN_TOWERS.items() if tower.lower().startswith(start)), None)
        if name is None or name in names:
            raise SetupError(f"unknown or repeated tower {tower!r} in mm_vision_tower_aux_list {listed!r}")
        names.append(name)
    return tuple(names)


def imof_encoders(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Encoders of an I-MoF checkpoint: CLIP and DINOv2, interleaved in this order.

    Its config is that of LLaVA-1.5, which says nothing of DINOv2; that the checkpoint is one shows in its tensors
    (`model.dino_mm_projector.*`), and loading fails without them.

    Raises:
        SetupError: no LLaVA-1.5 config.
    """
    tower = config.get("mm_vision_tower")
    if config.get("model_type") not in ("llava", "llava_llama") or "clip" not in str(tower):
        raise SetupError(
            f"not an I-MoF checkpoint: model_type is {config.get('model_type')!r} (expected 'llava') "
            f"and mm_vision_tower is {tower!r}"
        )
    return ("clip", "dinov2")


def deepseek_vl_encoders(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Encoders of a DeepSeek-VL-7B checkpoint, original or converted: SAM (high resolution) and SigLIP (low).

    Raises:
        SetupError: no such config; DeepSeek-VL-1.3B, which has one encoder.
    """
    kind = config.get("model_type")
    if kind == "deepseek_vl_hybrid":
        return ("sam", "siglip")
    vision = config.get("vision_config")
    vision = vision if isinstance(vision, dict) else {}
    if kind == "deepseek_vl" or (kind == "multi_modality" and vision.get("cls") == "CLIPVisionTower"):
        raise SetupError("DeepSeek-VL-1.3B has one vision encoder (SigLIP): there is nothing to compare it with")
    if kind != "multi_modality" or vision.get("cls") != "HybridVisionTower":
        raise SetupError(
            f"not a DeepSeek-VL-7B checkpoint: model_type is {kind!r} (expected 'multi_modality' or "
            f"'deepseek_vl_hybrid') and the vision tower {vision.get('cls')!r}"
        )
    return ("sam", "siglip")


def eagle2_encoders(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Encoders of an Eagle2 checkpoint with two towers: SigLIP and ConvNeXt, concatenated in this order.

    Raises:
        SetupError: no such config, or one with another set of towers.
    """
    vision = config.get("vision_config")
    vision = vision if isinstance(vision, dict) else {}
    if config.get("model_type") != "eagle_chat" or vision.get("model_type") != "MOB":
        raise SetupError(
            f"not an Eagle2-9B checkpoint: model_type is {config.get('model_type')!r} (expected 'eagle_chat') "
            f"with a vision tower {vision.get('model_type')!r} (expected 'MOB')"
        )
    if vision.get("moe_version_type") != "convnext_512_siglip_448":
        raise SetupError(f"unknown towers {vision.get('moe_version_type')!r}; known: convnext_512_siglip_448")
    return ("siglip", "convnext")


def parse_encoders(text: object) -> dict[str, str]:
    """Read the argument `encoders` of hf_masked and masked: `NAME:MODULE.PATH+NAME:MODULE.PATH` -> {name: path}.

    Raises:
        SetupError: the text has another form, or names one encoder twice.
    """
    found: dict[str, str] = {}
    for part in filter(None, str(text or "").split("+")):
        name, colon, path = (piece.strip() for piece in part.partition(":"))
        if not colon or not name or not path:
            raise SetupError(
                f"encoders must be NAME:MODULE.PATH joined by +, e.g. clip:model.vision_tower; not {text!r}"
            )
        name = masks.check_name(name).lower()
        if name in found:
            raise SetupError(f"encoders names {name!r} twice: {text!r}")
        found[name] = path
    if not found:
        raise SetupError("encoders=NAME:MODULE.PATH+... must say which modules the model's vision encoders are")
    return found


_X4 = ("clip", "convnext", "pix2struct", "eva02")
_X5_7B = ("clip", "convnext", "sam", "eva02", "pix2struct")
_X5_13B = ("clip", "convnext", "sam", "pix2struct", "eva02")
_NON_COMMERCIAL = "CC-BY-NC(-SA)-4.0"
FAMILIES = {
    "eagle_masked": Family(
        model_id="eagle_masked",
        title="Eagle X (channel concatenation)",
        module="redundancy_eval.model_wrappers.families.eagle.model",
        default="NVEagle/Eagle-X5-7B",
        encoders=eagle_encoders,
        keys=lambda config: config_keys.EAGLE,
        # Orders: the released configs of X4-8B-Plus and X5-13B were read; X5-7B's and X4-13B-Plus's follow NVIDIA's
        # scripts and the 8B release, and are read from the config when it is at hand.
        checkpoints=(
            Checkpoint("NVEagle/Eagle-X5-7B", _X5_7B, "vicuna_v1", _NON_COMMERCIAL),
            Checkpoint("NVEagle/Eagle-X5-13B", _X5_13B, "vicuna_v1", _NON_COMMERCIAL),
            Checkpoint("NVEagle/Eagle-X5-13B-Chat", _X5_13B, "vicuna_v1", _NON_COMMERCIAL),
            Checkpoint("NVEagle/Eagle-X4-8B-Plus", _X4, "llama3", _NON_COMMERCIAL),
            Checkpoint("NVEagle/Eagle-X4-13B-Plus", _X4, "vicuna_v1", _NON_COMMERCIAL),
            Checkpoint(hub.DEMO, _X4, "vicuna_v1", "Apache-2.0"),
        ),
        sites=("encoder",),
        checked_with="recorded tensors",
        recorded="redundancy_eval.model_wrappers.families.eagle.recording",
        costs={
            "clip": (303.5, 381), "convnext": (843.4, 6335), "sam": (308.3, 2986), "eva02": (303.4, 3098),
            "pix2struct": (512.8, 2512),
        },
        skipped="always",
        # VLMEvalKit's vlm/eagle_x.py, which the authors left as it was; top_k is transformers' default of its time
        published=Published(
            arguments={"conv_template": "vicuna_v1", "dtype": "float16", "long_prompt": "cut"},
            generation={"do_sample": True, "temperature": 0.2, "top_p": 0.5, "top_k": 50},
            max_new_tokens=512,
            joint="",
            one_image=False,
            own_choice_wording=True,
        ),
    ),
    "cambrian_masked": Family(
        model_id="cambrian_masked",
        title="Cambrian-1 (spatial vision aggregator, in the connector and inside the language model)",
        module="redundancy_eval.model_wrappers.families.cambrian.model",
        default="nyu-visionx/cambrian-8b",
        encoders=cambrian_encoders,
        keys=config_keys.cambrian,
        checkpoints=tuple(
            Checkpoint(f"nyu-visionx/cambrian-{size}", ("siglip", "clip", "dinov2", "convnext"), template, licence)
            for size, template, licence in (
                ("phi3-3b", "phi3", "see its card; Phi-3 inside"), ("8b", "llama_3", "see its card; Llama 3 inside"),
                ("13b", "vicuna_v1", "see its card; Vicuna inside"),
            )
        ),
        sites=("encoder", "projected"),
        checked_with="recorded tensors",
        recorded="redundancy_eval.model_wrappers.families.cambrian.recording",
        costs={"siglip": (413.0, 666), "clip": (303.5, 381), "dinov2": (1136.5, 1786), "convnext": (843.4, 6335)},
        skipped="always, but for siglip under site=projected with global_context=keep",
        settings={
            "encoder_weights": "folder that holds the encoders' hub repositories as ORG/NAME; default: the hub",
            "global_context": "with site=projected and siglip dropped: keep (default, as the paper's authors) or zero",
            "dino_positions": "how DINOv2's position table is resized: offset (default, as trained) or size",
        },
        # VLMEvalKit's vlm/cambrian.py, and the authors' cambrian_arch.py for the site
        published=Published(
            arguments={"site": "projected", "dtype": "float16", "long_prompt": "cut"},
            generation={},
            max_new_tokens=2048,
            joint="\n",
            one_image=True,
            own_choice_wording=False,
        ),
        repositories=cambrian_repositories,
    ),
    "imof_masked": Family(
        model_id="imof_masked",
        title="I-MoF (LLaVA-1.5 with interleaved CLIP and DINOv2 tokens)",
        module="redundancy_eval.model_wrappers.families.imof.model",
        default="MMVP/MoF_Models",
        encoders=imof_encoders,
        keys=lambda config: config_keys.IMOF,
        checkpoints=(Checkpoint("MMVP/MoF_Models", ("clip", "dinov2"), "vicuna_v1", "see its card; Vicuna inside"),),
        sites=("encoder", "projected"),
        checked_with="recorded tensors",
        recorded="redundancy_eval.model_wrappers.families.imof.recording",
        costs={"clip": (303.5, 381), "dinov2": (304.4, 382)},
        skipped="always",
        settings={
            "encoder_weights": "folder that holds the encoders' hub repositories as ORG/NAME; default: the hub",
            "image_mode": "pad (default: to a square, as trained) or crop (the centre, as the paper's own script)",
        },
        repositories=imof_repositories,
    ),
    "deepseek_vl_masked": Family(
        model_id="deepseek_vl_masked",
        title="DeepSeek-VL-7B (two halves of one vector)",
        module="redundancy_eval.model_wrappers.families.deepseek_vl.model",
        default="deepseek-ai/deepseek-vl-7b-chat",
        encoders=deepseek_vl_encoders,
        keys=config_keys.deepseek_vl,
        checkpoints=tuple(
            Checkpoint(hub_id, ("sam", "siglip"), "deepseek", "DeepSeek model licence")
            for hub_id in ("deepseek-ai/deepseek-vl-7b-chat", "deepseek-community/deepseek-vl-7b-chat")
        ),
        sites=("encoder",),
        checked_with="recorded tensors",
        recorded="redundancy_eval.model_wrappers.families.deepseek_vl.recording",
        costs={"sam": (96.4, 972), "siglip": (303.7, 381)},
        skipped="always",
        settings={"processor": "original (default: pixels as the original code makes them) or native (transformers')"},
    ),
    "eagle2_masked": Family(
        model_id="eagle2_masked",
        title="Eagle2-9B (tiles, channel concatenation, LayerNorm over it)",
        module="redundancy_eval.model_wrappers.families.eagle2.model",
        default="nvidia/Eagle2-9B",
        encoders=eagle2_encoders,
        keys=lambda config: config_keys.EAGLE2,
        checkpoints=(Checkpoint("nvidia/Eagle2-9B", ("siglip", "convnext"), "qwen2-chat", "CC-BY-NC-4.0"),),
        sites=("encoder",),
        checked_with="recorded tensors",
        recorded="redundancy_eval.model_wrappers.families.eagle2.recording",
        costs={"siglip": (413.3, 974), "convnext": (843.4, 1584)},
        skipped="always",
        settings={"max_tiles": "most tiles of an image, the thumbnail not counted (default: the checkpoint's)"},
    ),
}  # fmt: skip


def family(model_id: str) -> Family:
    """The family behind a model id.

    Raises:
        SetupError: no such family.
    """
    if model_id not in FAMILIES:
        raise SetupError(f"model must be one of {', '.join(FAMILIES)}; not {model_id!r}")
    return FAMILIES[model_id]


def check(model_id: str, config: Mapping[str, Any], where: str = "config.json") -> None:
    """Refuse the config of a checkpoint that says anything which is not read here and may decide answers.

    Args:
        model_id: of its family.
        config: its config.json.
        where: that file, for messages.

    Raises:
        SetupError: of another family, quantised, or with a key that is not known or not supported.
    """
    found = family(model_id)
    found.encoders(config)
    config_keys.check(config, found.keys(config), where)


def encoders_of(model_id: str, pretrained: str | None = None, revision: str | None = None) -> tuple[str, ...]:
    """Names of a checkpoint's encoders in its own order, from its config.

    Raises:
        SetupError: the checkpoint can't be found or is of another family.
    """
    found = family(model_id)
    folder = hub.locate(pretrained or found.default, revision, weights=False)
    return found.encoders(hub.read_config(folder))


def folders(model_id: str, given: Mapping[str, Any]) -> dict[str, Path]:
    """Where the weights are that decide a model's answers: `checkpoint`, and encoders with repositories of their own.

    Args:
        model_id: of a family, or `hf_masked`.
        given: its model arguments.

    Raises:
        SetupError: none are named, or they are not there and cannot be fetched.
    """
    found = FAMILIES.get(model_id)
    pretrained = given.get("pretrained") or (found.default if found else "")
    if not pretrained:
        raise SetupError(f"{model_id} needs pretrained= (a hub id or folder)")
    places = {"checkpoint": hub.locate(str(pretrained), given.get("revision"))}
    if found and found.repositories:
        for name, repository in found.repositories(hub.read_config(places["checkpoint"])).items():
            places[name] = hub.locate_encoder(repository, given.get("encoder_weights"))
    return places


def known_encoders(model_id: str, pretrained: str) -> tuple[str, ...]:
    """Names of a checkpoint's encoders as far as they are known without a network; () when they are not.

    From the checkpoint's own config where the folder (or the hub's cache) is on this machine, else from the table.
    """
    if model_id not in FAMILIES:
        return ()
    found = FAMILIES[model_id]
    if pretrained == model_id:  # a run that left `pretrained=` out
        pretrained = found.default
    folder = hub.cached(pretrained)
    if folder is not None:
        return found.encoders(hub.read_config(folder))
    return next((c.encoders for c in found.checkpoints if c.hub_id == pretrained), ())
