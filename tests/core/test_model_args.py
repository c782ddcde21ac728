"""Model arguments: read as lmms-eval reads them, and refused where they say nothing or two things."""

from pathlib import Path

import pytest

from redundancy_eval import cli, model_args
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.masking import checked_arguments
from tests.helpers.runs import DEMO_TASKS, write_run

JSON = 'model=a/b,mm_processor_kwargs={"max": 4, "min": 4},limit={"image":32},list=[1,2],text="a,b",n=8'


def test_values_may_be_json():
    assert model_args.parse(JSON, "--model_args") == {
        "model": "a/b",
        "mm_processor_kwargs": '{"max": 4, "min": 4}',
        "limit": '{"image":32}',
        "list": "[1,2]",
        "text": '"a,b"',
        "n": "8",
    }
    assert model_args.parse("pretrained=a[1,drop=it's", "--model_args") == {"pretrained": "a[1", "drop": "it's"}
    assert model_args.parse({"pretrained": None, "n": 8}, Path("file")) == {"n": "8"}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("pretrained=demo,drop=", "drop= is empty; name encoders, or none, or leave it out"),
        ("drop= ,pretrained=demo", "drop= is empty"),
        ("pretrained=demo,keep=", "keep= is empty"),
        ("pretrained=,drop=clip", "pretrained= is empty; name a checkpoint, or leave it out"),
        ({"drop": ""}, "drop= is empty"),
        ("drop=clip,drop=eva02", "drop= stands twice in the model arguments: 'clip' and 'eva02'"),
        ("drop=clip,eva02", "'eva02' is not of the form NAME=VALUE"),
    ],
)
def test_arguments_that_say_nothing_or_two_things(text, match):
    with pytest.raises(SetupError, match=match):
        model_args.parse(text, "--model_args")
    with pytest.raises(DataError, match=f"results.json: .*{match}"):
        model_args.parse(text, Path("results.json"))


def test_a_run_with_an_empty_mask_is_no_full_model(tmp_path, capsys):
    write_run(tmp_path, "", {DEMO_TASKS[0]: [1]})
    assert cli.main(["report", str(tmp_path)]) == 3
    assert "_results.json: drop= is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "given", "match"),
    [
        ("eagle_masked", {"dtpye": "float32"}, "eagle_masked has no argument 'dtpye'; it takes pretrained, drop, keep"),
        ("eagle_masked", {"drop": ""}, "drop= is empty"),
        ("masked", {"keep": " "}, "keep= is empty"),
        ("hf_masked", {"site": "encoder"}, "hf_masked has no argument 'site'"),
        ("eagle_masked", {"site": "projected"}, "site must be one of encoder for eagle_masked; not 'projected'"),
        ("eagle_masked", {"ablation": "zeros"}, "ablation must be one of zero, mean, noise, shuffle"),
        ("imof_masked", {"long_prompt": "keep"}, "long_prompt must be one of error, cut"),
    ],
)
def test_arguments_are_checked_by_name(model, given, match):
    with pytest.raises(SetupError, match=match):
        checked_arguments.check(model, given)


def test_what_is_not_ours_is_not_checked():
    checked_arguments.check("llava", {"anything": "1", "drop": ""})
    checked_arguments.check("masked", {"base": "x", "anything": "1"})
    for family in registry.FAMILIES.values():
        checked_arguments.check(family.model_id, dict.fromkeys(family.settings, "x"))


@pytest.mark.framework
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_mistake_costs_no_file(tmp_path, capsys, command):
    pytest.importorskip("lmms_eval")
    out = tmp_path / "out"
    wrong = ["--model", "eagle_masked", "--model_args", "pretrained=demo,dtpye=float32", "--output_path", str(out)]
    assert cli.main([command, *wrong, "--tasks", DEMO_TASKS[0], "--limit", "2"]) == 2
    assert "has no argument 'dtpye'" in capsys.readouterr().err and not out.exists()


@pytest.mark.models
def test_a_judge_s_key_is_passed_on_and_not_written_down():
    pytest.importorskip("timm")
    from redundancy_eval.model_wrappers.hosts.vlmevalkit import arguments, record

    judged = ["--judge", "mine", "--judge-args", '{"key": "SECRET", "temperature": 0}']
    model = ["--model", "eagle_masked", "--model_args", "pretrained=demo,drop=clip"]
    asked, _ = arguments.parse([*model, "--data", "MME", "--work-dir", "w", *judged])
    described = record.describe(asked, [*model, *judged])
    assert "SECRET" in asked.passed[-1] and "SECRET" not in str(described) and "temperature" in described["passed"][-1]
    other = arguments.parse(
        [*model, "--data", "MME", "--work-dir", "w", *judged[:-1], '{"key": "S2", "temperature": 0}']
    )
    assert record.digest(record.describe(other[0], [])) == record.digest(described)
