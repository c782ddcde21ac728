"""What masks cost: parts sum to the whole, less runs for less, and what is counted is what runs."""

import csv
import json
import math

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval import costs_file, masks
from redundancy_eval.cli import main
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.costs import counted
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.prune import writing
from tests.helpers import tiny, tiny_models

pytestmark = pytest.mark.models
LOAD = counted.Load((80, 60), 60, 8)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Model id -> model arguments of a tiny checkpoint."""
    return tiny_models.write(tmp_path_factory.mktemp("tiny"))


def count(model_id, given, which=None, load=LOAD):
    counter = counted.Counter(model_id, hub.locate(given["pretrained"]), given)
    return counter.masks(which or masks.every(counter.encoders), load, 2)[0]


@pytest.mark.parametrize("model_id", list(registry.FAMILIES))
def test_parts_sum_and_what_drops_more_never_costs_more(checkpoints, model_id):
    given = checkpoints[model_id]
    for site in registry.FAMILIES[model_id].sites:
        rows = count(model_id, {**given, "site": site})
        for row in rows:
            parts = [row.counted[f"flops_{part}"] for part in ("encoders", "fusion", "prefill", "decode")]
            assert row.counted["flops"] == sum(parts) and all(part >= 0 for part in parts)
            assert row.counted["bytes"] == 2 * row.counted["parameters"] > 0
        for row in rows:
            for other in rows:
                if set(row.mask) < set(other.mask):
                    assert row.counted["flops"] >= other.counted["flops"]
                    assert row.counted["parameters"] >= other.counted["parameters"]
        if site == "encoder":  # every encoder's drop saves something
            assert len({row.counted["flops"] for row in rows if len(row.mask) == 1} | {rows[0].counted["flops"]}) > 1
            assert all(row.counted["parameters"] < rows[0].counted["parameters"] for row in rows[1:])


@pytest.mark.parametrize("model_id", list(registry.FAMILIES))
def test_parameters_are_those_that_a_mask_loads(checkpoints, model_id):
    given = checkpoints[model_id]
    names = registry.encoders_of(model_id, given["pretrained"])
    for row in count(model_id, given, [(), names[:1], names]):
        loaded = loading.load(model_id, device="cpu", drop="+".join(row.mask) or "none", **given)
        assert row.counted["parameters"] == sum(p.numel() for p in loaded.model.parameters())


def test_dropping_only_takes_the_encoders_operations_at_site_encoder(checkpoints):
    rows = count("eagle_masked", checkpoints["eagle_masked"])
    for part in ("flops_fusion", "flops_prefill", "flops_decode"):
        assert len({row.counted[part] for row in rows}) == 1
    alone = {row.mask[0]: rows[0].counted["flops"] - row.counted["flops"] for row in rows if len(row.mask) == 1}
    for row in rows:
        assert rows[0].counted["flops"] - row.counted["flops"] == sum(alone[name] for name in row.mask)
    assert rows[-1].counted["flops_encoders"] == 0


def test_behind_projectors_siglip_still_runs_for_the_context(checkpoints):
    given = {**checkpoints["cambrian_masked"], "site": "projected"}
    full, kept = count("cambrian_masked", given, [(), ("siglip",)])
    zeroed = count("cambrian_masked", {**given, "global_context": "zero"}, [("siglip",)])[0]
    assert kept.counted["flops_encoders"] == full.counted["flops_encoders"] > zeroed.counted["flops_encoders"]
    assert kept.counted["parameters"] == full.counted["parameters"] > zeroed.counted["parameters"]
    assert zeroed.counted["flops_fusion"] < full.counted["flops_fusion"]  # its projector is skipped


def test_the_samplers_in_cambrian_s_language_model_are_counted(checkpoints):
    given = checkpoints["cambrian_masked"]
    counter = counted.Counter("cambrian_masked", hub.locate(given["pretrained"]), given)
    language = counted.operations.language(counter.model.language_model)
    row, visual = counter.masks([()], LOAD, 2)
    assert row[0].counted["flops_prefill"] > language.prefill(visual + LOAD.text_tokens)


def test_what_is_not_known_is_empty_with_a_reason(checkpoints, tmp_path, capsys):
    given = checkpoints["imof_masked"]["pretrained"]
    assert main(["cost", "--model", "imof_masked", "--model_args", f"pretrained={given}", "-o", str(tmp_path)]) == 0
    assert "unknown" in capsys.readouterr().out
    made = costs_file.read(tmp_path)
    by_mask = {row.mask: row.counted for row in made.masks}
    assert math.isnan(by_mask[()]["flops"]) and math.isnan(by_mask[()]["parameters"])
    assert by_mask["clip", "dinov2"]["flops"] > 0  # nothing unknown runs
    assert "encoder_weights=" in made.reasons["flops"]
    with (tmp_path / "cost.csv").open() as file:
        rows = {row["mask"]: row for row in csv.DictReader(file)}
    assert rows["none"]["flops"] == "" and rows["all"]["flops"]


def test_pruned_weights_are_as_many_as_counted(checkpoints, tmp_path):
    given = checkpoints["eagle_masked"]
    whole, small = count("eagle_masked", given, [(), ("clip", "sam")])
    buffers = {}
    for mask in ("none", "clip+sam"):
        model = loading.load("eagle_masked", given["pretrained"], mask, device="cpu").model
        buffers[mask] = sum(v.numel() for v in model.state_dict().values()) - sum(p.numel() for p in model.parameters())
    said = writing.write(
        writing.read("eagle_masked", {**given, "drop": "clip+sam"}, False), tmp_path / "small", False
    )  # fmt: skip
    assert said["parameters"] == small.counted["parameters"] + buffers["clip+sam"] < whole.counted["parameters"]


def test_measurements_are_written_and_read(checkpoints, tmp_path, capsys):
    given = checkpoints["eagle_masked"]["pretrained"]
    command = ["cost", "--model", "eagle_masked", "--masks", "none;clip;all", "--repeats", "2", "--new_tokens", "3"]
    arguments = f"pretrained={given},device=cpu,dtype=float32"
    for how in ("--random", "--measure"):
        assert main([*command, "--model_args", arguments, how, "-o", str(tmp_path / how)]) == 0
        made = costs_file.read(tmp_path / how)
        assert [row.mask for row in made.masks][:2] == [(), ("clip",)] and len(made.masks) == 3
        for row in made.masks:
            assert {"first_token", "next_token", "images_per_second"} <= set(row.measured)
            assert all(m.low <= m.median <= m.high for m in row.measured.values())
            assert "peak_bytes" not in row.measured
        assert made.measured_on["repeats"] == 2 and made.measured_on["dtype"] == "float32"
        assert any("peak memory" in note for note in made.notes)
        titles = (tmp_path / how / "cost.csv").read_text().splitlines()[0].split(",")
        assert titles[:4] == ["model", "checkpoint", "mask", "flops"] and "first_token_low" in titles
    assert "seconds to the first token" in capsys.readouterr().out


@pytest.mark.parametrize("model_id", list(registry.FAMILIES))
def test_random_weights_of_every_family_run(checkpoints, tmp_path, model_id):
    arguments = ",".join(f"{k}={v}" for k, v in {**checkpoints[model_id], "device": "cpu"}.items())
    command = ["cost", "--model", model_id, "--model_args", arguments, "--random", "--repeats", "1"]
    more = ["--masks", "none;all", "--new_tokens", "1", "--image", "64x48"]
    assert main([*command, *more, "-o", str(tmp_path)]) == 0
    assert all(row.measured["first_token"].median > 0 for row in costs_file.read(tmp_path).masks)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model", "hf_masked"], "what its encoders cost is not known"),
        (["--model_args", "pretrained=demo,drop=clip"], "--masks says which masks"),
        (["--image", "800"], "--image is WIDTHxHEIGHT"),
        (["--new_tokens", "0"], "are above 0"),
        (["--model_args", "pretrained=demo,dtype=int8"], "dtype must be one of"),
        (["--masks", "dinov2"], "unknown encoder"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, more, said):
    command = ["cost", "--model", "eagle_masked", "--model_args", "pretrained=demo", "-o", str(tmp_path / "out")]
    assert main([*command, *more]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_costs_are_of_the_whole_model(checkpoints, tmp_path, capsys):
    given = checkpoints["eagle_masked"]
    out = tmp_path / "small"
    writing.write(writing.read("eagle_masked", {**given, "drop": "clip"}, False), out, False)
    assert (
        main(["cost", "--model", "eagle_masked", "--model_args", f"pretrained={out}", "-o", str(tmp_path / "c")]) == 2
    )
    assert "was pruned of clip; costs are of the whole model" in capsys.readouterr().err


@pytest.mark.slow
def test_the_paper_s_reductions_of_eagle_x5(tmp_path):
    """Paper: two encoders take 61.4 % of vision's operations; 12.1 % less in all, for a prompt that is not told."""
    config = hub.read_config(hub.locate("demo"))
    for key in ("encoder_configs", "image_size", "grid_size"):
        del config[key]
    config |= dict(
        mm_vision_tower=tiny.TOWERS, mm_hidden_size=7680, hidden_size=4096, intermediate_size=11008, vocab_size=32000,
        num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32,
    )  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    counter = counted.Counter("eagle_masked", tmp_path, {})
    saved = {}
    for tokens in (60, 1350):
        load = counted.Load((800, 600), tokens, 8)
        (full, two), _ = counter.masks([(), ("clip", "sam", "pix2struct")], load, 2)
        assert two.counted["flops_encoders"] / full.counted["flops_encoders"] == pytest.approx(0.614, abs=0.003)
        saved[tokens] = 1 - two.counted["flops"] / full.counted["flops"]
    assert saved == {60: pytest.approx(0.195, abs=0.001), 1350: pytest.approx(0.121, abs=0.003)}
