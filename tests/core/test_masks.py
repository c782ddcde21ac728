import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redundancy_eval import masks
from redundancy_eval.errors import SetupError

X5 = ("clip", "convnext", "sam", "eva02", "pix2struct")
subsets = st.sets(st.sampled_from(X5)).map(lambda chosen: tuple(n for n in X5 if n in chosen))


@given(subsets, st.randoms())
def test_parse_of_label_is_the_mask(mask, rng):
    assert masks.dropped(X5, masks.label(mask, X5)) == mask
    shuffled = list(mask)
    rng.shuffle(shuffled)
    if shuffled:
        text = "+".join(name.upper() if rng.random() < 0.5 else f" {name} " for name in shuffled)
        assert masks.dropped(X5, text) == mask


@given(subsets)
def test_keep_is_the_complement_of_drop(mask):
    kept = [name for name in X5 if name not in mask]
    assert masks.dropped(X5, keep="+".join(kept) or "none") == mask


@given(st.integers(1, 6))
def test_every_mask_once_in_model_order(n):
    names = tuple(f"e{i}" for i in range(n))
    found = masks.every(names)
    assert len(found) == len(set(found)) == 2**n
    assert found[0] == () and found[-1] == names
    assert [len(mask) for mask in found] == sorted(len(mask) for mask in found)
    assert all(list(mask) == sorted(mask, key=names.index) for mask in found)
    assert set(masks.leave_one_out(names)) == {(), names, *((name,) for name in names)}
    assert set(masks.keep_one(names)) == {(), names, *(tuple(o for o in names if o != k) for k in names)}


@pytest.mark.parametrize(
    ("drop", "keep", "expected"),
    [
        ("det", None, ("eva02",)),
        ("EVA-02", None, ("eva02",)),
        ("eva+CLIP", None, ("clip", "eva02")),
        ("none", None, ()),
        ("", "", ()),
        (None, None, ()),
        ("all", None, X5),
        (None, "eva02", ("clip", "convnext", "sam", "pix2struct")),
        (None, "all", ()),
        (None, "none", X5),
    ],
)
def test_what_people_type(drop, keep, expected):
    assert masks.dropped(X5, drop, keep) == expected


def test_alias_gives_way_to_a_real_name():
    assert masks.dropped(("dino", "clip"), "dino") == ("dino",)
    assert masks.dropped(("dinov2", "clip"), "dino") == ("dinov2",)


@pytest.mark.parametrize("number", ["0", "3", "-1", 2, 0.0, "0+clip"])
def test_numbers_are_refused_with_the_names_in_order(number):
    with pytest.raises(SetupError, match="by name, not by number.*clip, convnext, sam, eva02, pix2struct") as error:
        masks.dropped(X5, number)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("drop", "keep"), [("clop", None), (None, "clop"), ("clip+", None), ("clip", "sam"), ("a b", "")]
)
def test_mistakes_list_the_encoders(drop, keep):
    with pytest.raises(SetupError, match="clip, convnext, sam, eva02, pix2struct"):
        masks.dropped(X5, drop, keep)


@pytest.mark.parametrize(
    "name", ["none", "ALL", "full", "keep", "../../x", "a/b", "1clip", "-clip", "a b", "", "a|b", "a\nb", "\xe9"]
)
def test_what_no_encoder_is_called(name):
    with pytest.raises(SetupError, match="is no encoder's name"):
        masks.check_name(name)


@pytest.mark.parametrize(
    "encoders", ["a:m.a+../../x:m.b", "none:m.a+clip:m.b", "clip:m.b+all:m.a", "clip:m.a+CLIP:m.b"]
)
def test_nor_one_behind_a_hook(encoders):
    from redundancy_eval.model_wrappers.families import registry

    with pytest.raises(SetupError, match="is no encoder's name|twice"):
        registry.parse_encoders(encoders)


def test_masks_of_a_model_whose_encoders_are_not_known():
    assert (
        masks.label(("clip",), ("clip",), whole=False) == "clip" and masks.label((), ("clip",), whole=False) == "none"
    )


def test_a_list_of_masks_is_a_regular_file_of_its_size(tmp_path, monkeypatch):
    path = tmp_path / "masks.txt"
    path.write_text("none\nclip+sam\n")
    assert masks.read_list(path) == ["none", "clip+sam"]
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin.txt").write_bytes(b"\xe9")
    for wrong, match in (
        (Path("/dev/zero"), "no regular file"),
        (tmp_path / "pipe", "no regular file"),
        (tmp_path, "no regular file"),
        (tmp_path / "latin.txt", "not UTF-8 text"),
        (tmp_path / "nowhere", "No such file or directory"),
    ):
        with pytest.raises(SetupError, match=f"--masks @{wrong}: {match}"):
            masks.read_list(wrong)
    monkeypatch.setattr(masks, "_LONGEST_LIST", 5)
    with pytest.raises(SetupError, match="longer than a list of masks is"):
        masks.read_list(path)
