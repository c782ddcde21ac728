"""A run of a pruned checkpoint is a mask of the whole model: in tables, in signatures, and never the full model."""

import pytest

from redundancy_eval import pruned, records
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.pruned import Pruned
from tests.helpers.runs import GENERAL, right, table_of, write_run

NAMES = ("clip", "convnext", "pix2struct", "eva02")
CLIP = Pruned(NAMES, ("clip",), "demo", "source", weights="own")


def record(mask, **more):
    return {"model": "eagle_masked", "encoders": list(NAMES), "mask": mask, "checkpoint": "source", **more}


def whole(root, *drops):
    for drop in drops:
        write_run(root, drop, {GENERAL: right(8 if drop == "none" else 6)})
        records.write(record(drop), root / f"drop-{drop}")


def small(root, drop="none", mask="clip", told=CLIP, points=5):
    """A run of the pruned checkpoint, whose model arguments name only itself."""
    write_run(root / "small", drop, {GENERAL: right(points)}, checkpoint="demo-small")
    records.write(record(mask, pruned=told.as_json()), root / "small" / f"drop-{drop}")


def test_its_row_is_the_mask_s(tmp_path):
    whole(tmp_path, "none", "convnext")
    small(tmp_path)
    small(tmp_path, drop="eva02", mask="clip+eva02", points=4)
    table = table_of(tmp_path)
    assert set(table.masks) == {(), ("clip",), ("convnext",), ("clip", "eva02")}
    assert "pruned:clip" in table.signature and "checkpoint:demo|" in table.signature


def test_without_it_no_signature_speaks_of_pruning(tmp_path):
    whole(tmp_path, "none", "clip")
    assert "pruned" not in table_of(tmp_path).signature


def test_it_is_no_full_model(tmp_path):
    small(tmp_path)
    table = table_of(tmp_path)
    assert table.masks == (("clip",),)
    assert any("the full model (drop=none) was not run" in note for note in table.notes)


def test_beside_the_same_mask_of_the_whole_model_it_is_a_second_run(tmp_path):
    whole(tmp_path, "none", "clip")
    small(tmp_path)
    with pytest.raises(DataError, match="two runs of drop=clip"):
        table_of(tmp_path)


def test_of_other_weights_it_is_refused(tmp_path):
    whole(tmp_path, "none")
    small(tmp_path)
    records.write(record("clip", pruned=CLIP.as_json(), checkpoint="another"), tmp_path / "small" / "drop-none")
    with pytest.raises(DataError, match="weights"):
        table_of(tmp_path)


@pytest.mark.parametrize(
    "told", [{}, {"dropped": "clip"}, {**CLIP.as_json(), "more": 1}, {**CLIP.as_json(), "dropped": []}]
)
def test_a_damaged_record_is_refused(tmp_path, told):
    whole(tmp_path, "none")
    small(tmp_path)
    records.write(record("clip", pruned=told), tmp_path / "small" / "drop-none")
    with pytest.raises(DataError, match="does not say what the checkpoint was pruned of"):
        table_of(tmp_path)


def test_what_was_written_is_read():
    told = Pruned(
        NAMES, ("clip", "eva02"), "demo", "x", "mean", "projected", {"global_context": "zero"}, True, "main", "y"
    )
    assert pruned.of(told.as_json(), "here") == told
    assert pruned.of_config({pruned.KEY: told.as_json()}) == told and pruned.of_config({}) is None


@pytest.mark.parametrize(
    ("drop", "keep", "mask"),
    [
        (None, None, ("clip",)), ("none", None, ("clip",)), ("clip", None, ("clip",)),
        ("eva02", None, ("clip", "eva02")), ("all", None, NAMES), (None, "eva02", NAMES[:3]),
    ],
)  # fmt: skip
def test_drop_and_keep_add_to_what_is_gone(drop, keep, mask):
    assert CLIP.mask(drop, keep) == mask


@pytest.mark.parametrize("keep", ["clip", "clip+eva02", "all"])
def test_what_is_gone_cannot_be_kept(keep):
    with pytest.raises(SetupError, match="pruned of clip, so clip cannot be kept"):
        CLIP.mask(None, keep)


def test_arguments_are_those_of_the_same_mask_of_the_source():
    assert CLIP.as_mask({"pretrained": "demo-small", "keep": "eva02", "dtype": "bfloat16"}) == {
        "pretrained": "demo", "drop": "clip+convnext+pix2struct", "dtype": "bfloat16",
    }  # fmt: skip
    revised = Pruned(NAMES, ("clip",), "org/name", "x", revision="v1")
    assert revised.as_mask({"pretrained": "s"}) == {"pretrained": "org/name", "drop": "clip", "revision": "v1"}
    behind = Pruned(NAMES, ("clip",), "demo", "x", "mean", "projected", {"global_context": "zero"})
    assert behind.as_mask({"pretrained": "s"}) == {
        "pretrained": "demo", "drop": "clip", "ablation": "mean", "site": "projected", "global_context": "zero",
    }  # fmt: skip
