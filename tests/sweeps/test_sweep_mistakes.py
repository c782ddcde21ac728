"""Mistakes in a sweep's command line are one line, and leave nothing behind."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval.cli import main
from tests.helpers.sweep_places import sweep

pytestmark = [pytest.mark.framework, pytest.mark.models]

NO_MASK = "--masks must be every, leave-one-out, keep-one, 'MASK;MASK;...' or @FILE; not "


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--masks", "clip;siglip"], "unknown encoder 'siglip'; this model has: clip, convnext, pix2struct, eva02"),
        (["--masks", "clip;1"], "encoders go by name, not by number (1): an index means different encoders in diff"),
        (["--masks", ""], NO_MASK + "''"),
        (["--masks", " ; ;"], NO_MASK + "' ; ;'"),
        (["--masks", "@nowhere"], "--masks @nowhere: No such file or directory"),
        (["--masks", "@empty"], NO_MASK + "'@empty'"),
        (["--masks", "everything"], "unknown encoder 'everything'; this model has: clip, convnext, pix2struct, eva02"),
        (["--model_args", "pretrained=demo,drop=clip"], "a sweep sets the masks itself: leave drop= and keep= out of"),
        (["--model_args", "pretrained=demo,keep=clip"], "a sweep sets the masks itself: leave drop= and keep= out of"),
        (["--model_args", "pretrained=demo,clip"], "--model_args: cannot read model arguments 'pretrained=demo,clip'"),
        (["--model_args", "pretrained=nowhere/at-all"], "cannot get nowhere/at-all from the hub"),
        (["--batch_size", "0"], "--batch_size must be auto or a positive number; not '0'"),
        (["--batch_size", "many"], "--batch_size must be auto or a positive number; not 'many'"),
        (["--feature_memory", "-1"], "--feature_memory must not be negative; not -1"),
    ],
)
def test_mistakes_are_one_line(more, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("empty").write_text("# nothing\n")
    assert main(sweep("out", *more)) in (2, 3)
    printed = capsys.readouterr().err
    assert printed.startswith(f"redundancy-eval: error: {said}") and printed.count("\n") == 1
    assert not Path("out").exists()
