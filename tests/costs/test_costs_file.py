"""cost.json: read as it was written, joined to its own model alone, refused where it is damaged."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redundancy_eval import costs_file, masks
from redundancy_eval.costs_file import CostsFile, MaskCost, Measured
from redundancy_eval.errors import DataError, SetupError

NAMES = ("clip", "sam", "eva02")
AMOUNT = st.floats(0, 1e18) | st.just(math.nan)
_THREE = st.tuples(*[st.floats(0, 1e6)] * 3)


def made(amounts=(), measured=None, **more):
    every = masks.every(NAMES)
    values = iter([*amounts, *(float(n) for n in range(100))])
    rows = tuple(
        MaskCost(mask, {name: next(values) for name in costs_file.COUNTED}, dict(measured or {})) for mask in every
    )
    return CostsFile("eagle_masked", "P", NAMES, {}, {"image": "800x600 pixels"}, rows, **more)


def plain(costs):
    return json.dumps([vars(row) | {"measured": {k: vars(v) for k, v in row.measured.items()}} for row in costs.masks])


@settings(max_examples=30, deadline=None)
@given(st.lists(AMOUNT, min_size=56, max_size=56), st.dictionaries(st.sampled_from(list(costs_file.MEASURED)), _THREE))
def test_it_is_read_as_it_was_written(tmp_path_factory, amounts, measured):
    path = tmp_path_factory.mktemp("cost")
    wanted = made(amounts, {name: Measured(*three) for name, three in measured.items()})
    costs_file.write(wanted, path / costs_file.NAME)
    found = costs_file.read(path)
    assert plain(found) == plain(wanted) and found.note() == wanted.note()
    assert (found.model, found.checkpoint, found.encoders) == (wanted.model, wanted.checkpoint, wanted.encoders)


def join(costs, model="eagle_masked", checkpoint="P", encoders=NAMES, arguments=None):
    return costs_file.join(costs, model, checkpoint, encoders, arguments or {}, "cost.json")


def test_joined_columns_are_in_the_order_of_the_masks():
    costs = made(range(56), {"first_token": Measured(0.2, 0.1, 0.3)})
    joined = join(costs)
    assert joined.masks == tuple(masks.every(NAMES))
    assert next(iter(joined.columns)) == "FLOPs"
    assert joined.columns["FLOPs"] == tuple(float(7 * row) for row in range(8))
    assert joined.columns["seconds to the first token"] == (0.2,) * 8
    assert "800x600" in joined.note
    assert "peak memory in bytes" not in joined.columns


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"model": "imof_masked"}, "costs of model eagle_masked; the runs are of imof_masked"),
        ({"checkpoint": "Q"}, "costs of checkpoint P; the runs are of Q"),
        ({"encoders": ("clip", "eva02", "sam")}, "costs of encoders"),
        ({"arguments": {"site": "projected"}}, "costs of site encoder; the runs are of projected"),
        ({"arguments": {"max_tiles": "3"}}, "costs of max_tiles unset; the runs are of 3"),
    ],
)
def test_another_model_s_costs_are_refused(other, said):
    with pytest.raises(DataError, match=said):
        join(made(), **other)
    join(made(), arguments={"site": "encoder", "dtype": "float16", "ablation": "zero"})


@pytest.mark.parametrize(
    "bend",
    [
        lambda c: c.pop("encoders"),
        lambda c: c["masks"][0].pop("flops"),
        lambda c: c["masks"][0].update(flops=-1),
        lambda c: c["masks"][0].update(flops="many"),
        lambda c: c["masks"][0].update(flops=True),
        lambda c: c["masks"][0].update(mask="dinov2"),
        lambda c: c["masks"].append(c["masks"][0]),
        lambda c: c["masks"][0].update(measured={"first_token": [1, 2]}),
        lambda c: c["masks"][0].update(measured={"soon": [1, 2, 3]}),
        lambda c: c.update(schema=2),
        lambda c: c.update(masks=3),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, bend):
    path = tmp_path / costs_file.NAME
    costs_file.write(made(), path)
    content = json.loads(path.read_text())
    bend(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="cost.json"):
        costs_file.read(path)


def test_nothing_else_is_written_over(tmp_path):
    costs_file.check_out(tmp_path / "new")
    costs_file.write(made(), tmp_path / costs_file.NAME)
    (tmp_path / costs_file.TABLE).write_text("model\n")
    costs_file.check_out(tmp_path)  # ours
    (tmp_path / costs_file.NAME).unlink()
    with pytest.raises(SetupError, match=r"write over .*cost\.csv, which no cost wrote"):
        costs_file.check_out(tmp_path)
    with pytest.raises(SetupError, match="is no folder"):
        costs_file.check_out(tmp_path / costs_file.TABLE)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SetupError, match="redundancy-eval cost writes it"):
        costs_file.read(tmp_path)
