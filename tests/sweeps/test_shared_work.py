"""What a sweep computes once: encoders for an image, and what prompts begin with."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.masking.prompt import Prefix, Prompt
from redundancy_eval.model_wrappers.sweeps import engines
from redundancy_eval.model_wrappers.sweeps.question import Question
from redundancy_eval.model_wrappers.sweeps.sweep import Sweep
from tests.helpers.sweeping import (
    ENCODERS,
    ONE_IMAGE,
    WIDE,
    A,
    B,
    agree,
    alone,
    fill,
    load,
    picture,
    question,
    questions,
    store,
    watching,
)

pytestmark = [pytest.mark.models, pytest.mark.slow]
# --- encoders run once ---------------------------------------------------------------------------------------------


# In batches of all sizes for one family, of one size for the others.
@pytest.mark.parametrize(
    ("kind", "batch_size"),
    [("eagle", 1), ("eagle", 3), ("eagle", "auto")]
    + [
        (kind, 3)
        for kind in (
            "cambrian projected", "imof", "deepseek_vl", "eagle2", "deepseek_ocr", "prismatic", "mgm", "mova",
        )
    ],
)  # fmt: skip
def test_each_encoder_runs_once_for_an_image(made, kind, batch_size, tmp_path):
    with store(tmp_path) as kept, watching() as seen:
        done = fill(made, kind, kept, questions(kind), batch_size)
        # The same pictures in other documents; of another task; in another order.
        done.fill(questions(kind, ("wide", "plain", "same text"), task="other"), show=False)
        assert done.engine.encoded == 3
    assert Counter(name for _, name in seen.encoded) == dict.fromkeys(ENCODERS[kind], 3)
    assert set(Counter(seen.encoded).values()) == {1}


@pytest.mark.parametrize("kind", ["eagle", "cambrian projected", "eagle2"])
def test_a_cache_for_one_image_answers_alike(made, expected, kind, tmp_path):
    asked = questions(kind)
    full = load(*made(kind))
    sizes = [engines._bytes(full.encode([picture(*one)], ENCODERS[kind])) for one in (A, B, WIDE)]
    for memory in (0, max(sizes)):
        with store(tmp_path, str(memory)) as kept, watching() as seen:
            done = fill(made, kind, kept, asked, 3, memory=memory)
            agree(made, expected(kind), kept, asked, kind)
            features = done.engine.features
            assert 0 <= features.used <= memory and len(features._kept) <= 1
            assert features.used == sum(map(engines._bytes, features._kept.values()))
    # An image's masks stand together: once for each document that shows it would be 11 of the three at the most.
    assert 3 < done.engine.encoded <= 11 and len(seen.encoded) == done.engine.encoded * len(ENCODERS[kind])


def test_what_was_not_used_for_longest_goes_first():
    outputs = {name: {"clip": torch.zeros(1, 2, 2)} for name in "abcd"}  # 16 bytes each
    features = engines.Features(40)
    for name in "ab":
        features.put(name, outputs[name])
    assert features.get("a") is outputs["a"] and features.used == 32
    features.put("c", outputs["c"])
    assert features.get("b") is None and features.get("a") and features.get("c") and features.used == 32
    features.put("d", {"clip": torch.zeros(1, 2, 2), "sam": torch.zeros(1, 3, 2, dtype=torch.bfloat16)})
    assert features.get("a") is None and features.get("c") is None and features.get("d") and features.used == 28
    assert engines.Features(3).get("a") is None


# --- beginnings are computed once ----------------------------------------------------------------------------------

TEXTS = ("What is this?", "Is there a red square in the picture?", "How many?", "Which colour is it? " * 2)
NATIVE = tuple(kind for kind in ENCODERS if kind != "hf")
SHARING = tuple(kind for kind in NATIVE if kind != "deepseek_ocr windowed")  # whose prompts are never split


def about(pictures, texts=TEXTS):
    """Each text with each list of pictures."""
    return [
        Question("task", "test", f"{n} {text}", text, 4, {}, lambda shown=shown: [picture(*one) for one in shown])
        for n, shown in enumerate(pictures)
        for text in texts
    ]


def test_questions_that_decide_what_an_image_is_share_the_template_alone(made, tmp_path):
    asked, names = about([[A], [B], [WIDE]]), ["none", "clip"]
    with store(tmp_path) as kept, watching() as seen:
        fill(made, "mova", kept, asked, 12, names=names)
        agree(made, {label: alone(*made("mova"), label, asked) for label in names}, kept, asked, "mova", names=names)
    shared = [prefix for prefixes in seen.prefixes for prefix in prefixes]
    assert len(shared) == 24 and not any(prefix.images for prefix in shared)


@pytest.mark.parametrize("kind", [kind for kind in SHARING if kind != "mova"])
def test_questions_on_one_image_share_what_it_is_to_the_language_model(made, kind, tmp_path):
    shown = [[A], [B], [WIDE]] if kind in ONE_IMAGE else [[A], [B, WIDE], [WIDE]]
    asked, names = about(shown), ["none", ENCODERS[kind][0]]
    wanted = {label: alone(*made(kind), label, asked) for label in names}
    with store(tmp_path) as kept, watching() as seen:
        fill(made, kind, kept, asked, 12, names=names)
        agree(made, wanted, kept, asked, kind, names=names)
    # Two batches of three images and masks each, four questions to each of them.
    assert [len(prefixes) for prefixes in seen.prefixes] == [12, 12]
    if kind != "deepseek_vl":  # whose template is longer than its tiny images
        assert [len({prefix.key for prefix in prefixes}) for prefixes in seen.prefixes] == [3, 3]
        assert all(prefix.images for prefixes in seen.prefixes for prefix in prefixes)


def first_logits(full, *arguments):
    """Logits of the first two new tokens."""
    language, kept = full.model.language_model, []
    generate = language.generate

    def watched(*args, generation_config, **rest):
        generation_config.output_logits = generation_config.return_dict_in_generate = True
        kept.append(generate(*args, generation_config=generation_config, **rest))
        return kept[-1].sequences

    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(language, "generate", watched)
        full.decode(*arguments, min_new_tokens=2)
    return torch.stack(kept[0].logits[:2], 1)


@pytest.mark.parametrize("kind", SHARING)
def test_shared_beginnings_change_no_logit(made, kind):
    """Whatever they are: some of the template, all of it, or all up to the last image and some words more."""
    full = load(*made(kind))
    shared = engines.start(full, ["none"], 0)
    pictures = [[A], [WIDE]] if kind in ONE_IMAGE else [[A], [WIDE], [B, A]]
    batch = [shared.ask(one.prompt()) for one in about(pictures, TEXTS[1:])]
    with torch.inference_mode():
        visuals = [full.visuals(one.prompt.images) for one in batch]
        sequences = [full.embed(one.ids, own) for one, own in zip(batch, visuals, strict=True)]
    lengths = list(map(len, sequences))
    whole = first_logits(full, sequences, visuals, 2)
    assert len(torch.unique(whole[:, 0].round(decimals=3), dim=0)) == len(batch)
    columns = list(zip(*(one.ids for one in batch), strict=False))
    before = next(place for place, found in enumerate(columns) if found != (found[0],) * len(batch) or min(found) < 0)
    many = [
        Prefix((one.hashes, one.prompt.text[:extra]), length - behind + extra, True)
        for extra in (0, 1)
        for one, length in zip(batch, lengths, strict=True)
        if (behind := len(one.ids) - 1 - engines._last(one.ids, templates.IMAGE_ID))
    ]
    half = len(many) // 2
    common = [[Prefix("template", length, False)] * len(batch) for length in (1, before)]
    for prefixes in (many[:half], many[half:], *common):
        assert torch.allclose(first_logits(full, sequences, visuals, 2, prefixes), whole, atol=1e-5), prefixes


def test_the_template_is_shared_where_no_image_is(made, tmp_path):
    asked = [question("plain"), question("same text"), question("wide")]
    with store(tmp_path) as kept, watching() as seen:
        fill(made, "eagle", kept, asked, 16)
    kinds = {(prefix.key, prefix.images) for prefixes in seen.prefixes for prefix in prefixes}
    assert (None, False) in kinds


def test_the_full_model_s_second_answers_share_nothing(made, tmp_path):
    model, arguments = made("eagle")
    with store(tmp_path) as kept, watching() as seen:
        fill(lambda _: (model, {**arguments, "dtype": "bfloat16"}), "eagle", kept, about([[A]]), names=["none"])
    assert [len(prefixes) for prefixes in seen.prefixes] == [4, 0] and seen.decoded == [4, 4]


def test_what_cannot_be_shared_is_not(made, tmp_path):
    full = load(*made("eagle"))
    asked = about([[A]])
    for change, settings in ((None, {}), ("beams", {"num_beams": 2}), ("window", {}), ("cut", {})):
        language = full.model.language_model
        language.config.sliding_window = 50 if change == "window" else None
        words = "very " * 400 if change == "cut" else ""
        mine = [replace(one, settings=settings, text=one.text + words) for one in asked]
        with store(tmp_path, str(change)) as kept, watching() as seen:
            Sweep(lambda: full, ["none"], kept).fill(mine, show=False)
            assert len(kept) == len(mine)
        assert [bool(prefixes) for prefixes in seen.prefixes] == [change is None]


@given(st.data())
def test_prefixes_are_what_is_equal_and_save_a_tenth(data):
    mark = templates.IMAGE_ID
    batch, lengths, sizes = [], [], {"a": 5, "b": 7}
    for _ in range(data.draw(st.integers(1, 6))):
        ids = tuple(data.draw(st.lists(st.sampled_from([1, 1, 1, 2, mark]), min_size=1, max_size=12)))
        hashes = tuple(data.draw(st.sampled_from("ab")) for _ in range(ids.count(mark)))
        batch.append((engines.Asked(Prompt(""), hashes, ids), data.draw(st.sampled_from(["none", "clip"]))))
        lengths.append(len(ids) - len(hashes) + sum(sizes[image] for image in hashes))
    prefixes = engines.prefixes(batch, lengths)
    if not prefixes:
        return
    beginnings = {}
    for (asked, label), prefix, length in zip(batch, prefixes, lengths, strict=True):
        assert 0 < prefix.length < length
        images = iter(asked.hashes)
        spelt = []
        for token in asked.ids:
            if token == mark:
                image = next(images)
                spelt += [(label, image)] * sizes[image]
            else:
                spelt.append(token)
        assert beginnings.setdefault(prefix.key, spelt[: prefix.length]) == spelt[: prefix.length]
        inside = [isinstance(token, tuple) for token in spelt]
        assert any(inside) == any(inside[: prefix.length]) if prefix.images else not any(inside[: prefix.length])
        assert not prefix.images or not any(inside[prefix.length :])
    padded = sum(max(len(one) for one in beginnings.values()) for _ in beginnings)
    padded += len(batch) * max(length - prefix.length for length, prefix in zip(lengths, prefixes, strict=True))
    assert padded < 0.9 * len(batch) * max(lengths)
