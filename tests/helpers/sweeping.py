"""Sweeps of tiny models: questions, checkpoints by family, answers of separate models, and what goes through one."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")


from redundancy_eval import masks
from redundancy_eval.model_wrappers.masking import ablations, hf, loading
from redundancy_eval.model_wrappers.masking.native import MaskedModel
from redundancy_eval.model_wrappers.sweeps import engines
from redundancy_eval.model_wrappers.sweeps.question import Question
from redundancy_eval.model_wrappers.sweeps.sweep import Sweep
from redundancy_eval.store import Store
from tests.helpers import (
    tiny,
    tiny_cambrian,
    tiny_deepseek_ocr,
    tiny_deepseek_vl,
    tiny_eagle2,
    tiny_hf,
    tiny_imof,
    tiny_mgm,
    tiny_mova,
    tiny_prismatic,
)
from tests.helpers.pictures import picture

TOWERS = "clip-448;convnext-1024;sam-1024;pix2struct-1024"
OCR = "sam:model.vision_tower.sam_encoder+clip:model.vision_tower.vision_encoder"
NEAR = 1e-4  # logits of two tokens that differ by less may change places between batches
ENCODERS = {
    "eagle": ("clip", "convnext", "sam", "pix2struct"),
    "cambrian": ("siglip", "clip", "dinov2", "convnext"),
    "cambrian projected": ("siglip", "clip", "dinov2", "convnext"),
    "imof": ("clip", "dinov2"),
    "imof projected": ("clip", "dinov2"),
    "deepseek_vl": ("sam", "siglip"),
    "eagle2": ("siglip", "convnext"),
    "deepseek_ocr": ("clip", "sam"),
    "deepseek_ocr cut": ("clip", "sam"),
    "deepseek_ocr windowed": ("clip", "sam"),
    "prismatic": ("dinov2", "siglip"),
    "mgm": ("clip", "convnext"),
    "mgm projected": ("clip", "convnext"),
    "mova": ("clip", "dinov2", "vary", "codetr", "pix2struct", "deplot", "biomedclip", "sam"),
    "hf": ("sam", "clip"),
}
ONE_IMAGE = (
    "cambrian", "cambrian projected", "imof", "imof projected", "deepseek_ocr", "deepseek_ocr cut",
    "deepseek_ocr windowed", "prismatic", "mgm", "mgm projected", "mova",
)  # fmt: skip


# Those of one size have one layout; the wide one is cut into other tiles and padded otherwise.
A, B, WIDE = (1, (60, 50)), (2, (60, 50)), (3, (150, 50))
LONG = "Look at the picture " + "very, " * 90 + "and tell."
# Document -> text, images, token limit.
DOCUMENTS = {
    "plain": ("What is this?", [A], 4),
    "same image": ("Is there a red square in the picture? Answer yes or no.", [A], 4),
    "same text": ("What is this?", [B], 4),
    "wide": ("What is this?", [WIDE], 4),
    "no image": ("Say something.", [], 4),
    "other limit": ("What is this?", [A], 7),
    "two": ("Which one is larger?", [B, A], 4),
    "misplaced": ("<image> Which one, <image> or <image>?", [WIDE], 4),
    "long": (LONG, [B], 4),
}
SHORT = tuple(name for name in DOCUMENTS if name not in ("two", "misplaced", "long"))


def question(name, task="task", draw=False, change=0):
    text, images, limit = DOCUMENTS[name]
    settings = {"do_sample": True, "temperature": 0.5} if draw else {}
    shown = [(seed + change, size) for seed, size in images]
    return Question(task, "test", name, text, limit, settings, lambda: [picture(*one) for one in shown])


def questions(kind, names=tuple(DOCUMENTS), **changes):
    # Transformers' processors know no placeholders in texts and no limit.
    left_out = ("misplaced", "long") if kind == "hf" else ()
    return [question(name, **changes) for name in names if name not in left_out]


def labels(kind):
    names = ENCODERS[kind]  # of eight encoders none, each and all
    every = [mask for mask in masks.every(names) if len(names) < 8 or len(mask) in (0, 1, len(names))]
    return [masks.label(mask, names) for mask in every]


def checkpoints(root):
    """A function that gives a kind's tiny checkpoint, as model id and arguments (without mask); made when asked for."""
    known = {}

    def write(kind):
        family = kind.partition(" ")[0]
        folder = root / kind
        if family == "eagle":
            return {"pretrained": tiny.write(folder, TOWERS)}
        if family == "cambrian":
            return dict(zip(("pretrained", "encoder_weights"), tiny_cambrian.write(folder), strict=True))
        if family == "imof":
            return dict(zip(("pretrained", "encoder_weights"), tiny_imof.write(folder), strict=True))
        if family == "mgm":
            return dict(zip(("pretrained", "encoder_weights"), tiny_mgm.write(folder), strict=True))
        if family == "deepseek_vl":
            return {"pretrained": tiny_deepseek_vl.write(folder)}
        if family == "prismatic":
            return dict(zip(("pretrained", "encoder_weights"), tiny_prismatic.write(folder), strict=True))
        if family == "eagle2":
            return {"pretrained": tiny_eagle2.write(folder)}
        if family == "deepseek_ocr":
            chain = {"chain": "cut"} if kind.endswith("cut") else {}
            # Unlimited-OCR's window; a sweep's batches put other answers beside each other than single runs do.
            unlimited = {"model_type": "unlimited-ocr", "architectures": ["UnlimitedOCRForCausalLM"]}
            windowed = {**unlimited, "sliding_window_size": 3} if kind.endswith("windowed") else {}
            return {"pretrained": tiny_deepseek_ocr.write(folder, **windowed), "base_size": "128", **chain}
        if family == "mova":
            return dict(zip(("pretrained", "encoder_weights"), tiny_mova.write(folder), strict=True))
        return {"pretrained": tiny_hf.unlimited_ocr(folder), "encoders": OCR}

    def get(kind):
        if kind not in known:
            arguments = {name: str(value) for name, value in write(kind).items()}
            if kind != "hf":
                arguments |= {"long_prompt": "cut", "many_images": "first"}
            if kind.endswith("projected"):
                arguments["site"] = "projected"
            known[kind] = f"{kind.partition(' ')[0]}_masked", arguments
        return known[kind]

    return get


def load(model, arguments, drop="none"):
    return loading.load(model, **{"device": "cpu", **arguments, "drop": drop})


def alone(model, arguments, label, asked):
    """Document -> the answer of a model under one mask to that question alone, as it would be stored."""
    subject, found = load(model, arguments, label), {}
    for one in asked:
        lists = {"first": subject.first, "moved": subject.moved, "known": subject.known, "cut": subject.cut}
        before = {note: len(names) for note, names in lists.items()}
        (answer,) = subject.generate([one.prompt()], one.limit)
        notes = tuple(note for note, names in lists.items() if len(names) > before[note])
        notes += tuple(subject.feeds()) + answer.notes
        found[one.document] = (answer.text, answer.prompt_tokens, answer.new_tokens, answer.capped, notes, answer.ids)
    return found


def told(stored):
    return stored.text, stored.prompt_tokens, stored.new_tokens, stored.capped, stored.notes, stored.ids


def answers_alone(made):
    """A function that gives a kind's answers of separate models: label -> document -> answer."""
    known = {}

    def get(kind):
        if kind not in known:
            known[kind] = {label: alone(*made(kind), label, questions(kind)) for label in labels(kind)}
        return known[kind]

    return get


def gap(model, arguments, label, asked, other):
    """Difference of the two largest logits at the first token at which the answer and another text part."""
    subject = load(model, arguments, label)
    language, tokenizer = (
        (subject.model, subject.processor.tokenizer)
        if isinstance(subject, hf.HfMaskedModel)
        else (subject.model.language_model, subject.tokenizer)
    )
    kept, generate = [], language.generate

    def watched(*args, generation_config, **rest):
        generation_config.output_logits = generation_config.return_dict_in_generate = True
        kept.append(generate(*args, generation_config=generation_config, **rest))
        return kept[-1].sequences

    language.generate = watched
    subject.generate([asked.prompt()], asked.limit)
    tokens = kept[0].sequences[0, -len(kept[0].logits) :]
    texts = [tokenizer.decode(tokens[: end + 1], skip_special_tokens=True).strip() for end in range(len(tokens))]
    place = next((end for end, text in enumerate(texts) if not other.startswith(text)), len(tokens) - 1)
    largest = kept[0].logits[place][0].float().topk(2).values
    return float(largest[0] - largest[1])


def differences(made, wanted, kept, asked, kind, names=None):
    """Answers in a store that are not those of separate models, as (label, document, gap of the logits)."""
    found = []
    for label in names or labels(kind):
        for one in asked:
            stored = kept.get(one.key(label))
            assert stored is not None, f"no answer to {one.document} under drop={label}"
            if told(stored) != wanted[label][one.document]:
                found.append((label, one.document, gap(*made(kind), label, one, stored.text)))
    return found


def agree(*arguments, **settings):
    """Fail unless answers are those of separate models, but for near-ties, which are shown."""
    found = differences(*arguments, **settings)
    print(f"near-ties: {found}")
    assert all(size < NEAR for _, _, size in found), found
    assert not found, "only near-ties differ, but these weights are not known to have any"


def store(folder, name="store"):
    return Store.open(folder / name, {"made for": "a test"})


def fill(made, kind, kept, asked, batch_size="auto", names=None, **settings):
    """Sweep over questions; returns the sweep."""
    done = Sweep(lambda: load(*made(kind)), names or labels(kind), kept, batch_size, **settings)
    done.fill(asked, show=False)
    return done


@contextmanager
def watching():
    """What goes through the model: (mask, document) of each sequence, hashes of encoded images, decoded batches."""
    seen = SimpleNamespace(asked=[], encoded=[], decoded=[], prefixes=[])
    encode, decode = MaskedModel.encode, MaskedModel.decode

    def noting(original):
        def answering(self, batch, *rest, **settings):
            replies = original(self, batch, *rest, **settings)
            seen.asked += [(label, one.prompt.name.removeprefix("task document ")) for one, label in batch]
            return replies

        return answering

    def encoding(self, images, names, pixels=()):
        seen.encoded += [(ablations.image_hash(image), name) for image in images for name in names]
        return encode(self, images, names, pixels)

    def decoding(self, sequences, visuals, limit, prefixes=(), **settings):
        seen.decoded.append(len(sequences))
        seen.prefixes.append(prefixes)
        return decode(self, sequences, visuals, limit, prefixes, **settings)

    with pytest.MonkeyPatch.context() as patch:
        for engine in (engines.Native, engines.Looped):
            patch.setattr(engine, "answer", noting(engine.answer))
        patch.setattr(MaskedModel, "encode", encoding)
        patch.setattr(MaskedModel, "decode", decoding)
        yield seen
