"""`redundancy-eval explain`, on every family's tiny checkpoint, through the command line, and in a report."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")


from redundancy_eval import explain_file, masks
from redundancy_eval.cli import main
from redundancy_eval.model_wrappers.diagnostics import explaining, passes
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.masking import ablations, calibration, loading
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from tests.helpers import tiny_hf, tiny_models
from tests.helpers.pictures import picture
from tests.helpers.runs import sweep

pytestmark = pytest.mark.models


PROMPTS = [Prompt("What is it?", (picture(0),), "one"), Prompt("Where is the dog?", (picture(1, (40, 70)),), "two")]
DOCUMENTS = [passes.Document("task", str(i), lambda p=p: p, 5) for i, p in enumerate(PROMPTS)]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Model id -> model arguments of a tiny checkpoint."""
    return tiny_models.write(tmp_path_factory.mktemp("tiny"))


def subject_of(model_id, given, **more):
    full = loading.load(model_id, device="cpu", **{"dtype": "float32", **given, **more})
    labels = ["none", *full.encoder_names, "all"]
    return passes.subject(full, {label: masks.dropped(full.encoder_names, label) for label in labels}), labels


@pytest.mark.parametrize("model_id", list(registry.FAMILIES))
def test_every_family(checkpoints, model_id):
    subject, labels = subject_of(model_id, checkpoints[model_id])
    found = explaining.measure(subject, DOCUMENTS, labels, explain_file.KINDS, 3)
    values = found.values
    assert [document.document for document in found.documents] == ["0", "1"]
    assert "again" not in values and all(np.isfinite(each).all() for each in values.values())
    assert (values["kl"][0] == 0).all() and (values["attention_kl"][0] == 0).all()
    assert (values["kl"][1:] > 0).all() and (values["js"] >= -1e-6).all()
    assert ((values["attention_mass"] > 0) & (values["attention_mass"] < 1)).all()
    # Along the ids that were generated: the full model's own log-probability of its answer.
    for column, prompt in enumerate(PROMPTS):
        (answer,) = subject.full.generate([prompt], 5)
        assert found.documents[column].tokens == len(answer.ids)
        assert values["surprise"][0, column] == pytest.approx(-answer.log_probability, abs=2e-4)
    cka = np.array(found.similarity.cka())
    if model_id == "mgm_masked":  # which tokens lie at the same place is not known
        assert np.array_equal(np.isnan(cka), ~np.eye(2, dtype=bool))
    else:
        assert np.isfinite(cka).all() and np.allclose(cka, cka.T) and (np.abs(cka) <= 1 + 1e-6).all()
    ranks = found.similarity.values()["rank"]
    assert all(1 <= rank <= channels for rank, channels in zip(ranks, found.similarity.channels.values(), strict=True))


@pytest.mark.parametrize("model_id", list(registry.FAMILIES))
def test_masks_together_are_as_each_by_itself(checkpoints, model_id):
    """What the prompts begin with is shared, and the attention is that of eager attention."""
    subject, labels = subject_of(model_id, checkpoints[model_id])
    eager, _ = subject_of(model_id, checkpoints[model_id], attn_implementation="eager")
    ready = subject.read(DOCUMENTS, True)[1]
    together = subject.passes(ready, labels, True)
    for label, one in zip(labels, together, strict=True):
        (alone,) = subject.passes(ready, [label], True)
        (again,) = eager.passes(ready, [label], True)
        for other in (alone, again):
            assert torch.allclose(one.logits, other.logits, rtol=1e-3, atol=1e-3 * one.logits.abs().max())
            assert torch.allclose(one.look.weights, other.look.weights, rtol=1e-2, atol=1e-5)
            assert one.look.mass == pytest.approx(other.look.mass, rel=1e-3)


def test_encoders_run_once_for_an_image_and_answers_are_never_tokenised_anew(checkpoints, monkeypatch):
    subject, labels = subject_of("eagle_masked", checkpoints["eagle_masked"])
    ran = []
    for name, module in subject.full.model.encoders.items():
        module.register_forward_hook(lambda m, i, o, name=name: ran.append((name, len(o))))
    same = [*DOCUMENTS, replace(DOCUMENTS[0], document="3")]
    read = subject.read(same, True)
    assert sorted(ran) == sorted((name, 2) for name in subject.encoders)  # the third shows the first one's image
    monkeypatch.setattr(subject.full, "tokenizer", None)
    for view in subject.views.values():
        monkeypatch.setattr(view, "tokenizer", None)
    for ready in read:
        subject.passes(ready, labels, True)
    assert len(ran) == len(subject.encoders)


def test_half_precision_tells_its_own_noise(checkpoints):
    subject, labels = subject_of("eagle_masked", checkpoints["eagle_masked"], dtype="bfloat16")
    found = explaining.measure(subject, DOCUMENTS, labels, ["divergence"], 4)
    assert np.isfinite(found.values["again"][0]).all() and np.isnan(found.values["again"][1:]).all()
    assert (found.values["again"][0] < found.values["kl"][1:].max(0)).all() and found.similarity is None


def test_a_document_without_images_is_looked_at_by_no_encoder(checkpoints):
    subject, labels = subject_of("eagle_masked", checkpoints["eagle_masked"])
    text = passes.Document("task", "9", lambda: Prompt("What is two and two?"), 5)
    found = explaining.measure(subject, [text, DOCUMENTS[0]], labels, explain_file.KINDS, 2)
    assert np.allclose(found.values["kl"][:, 0], 0, atol=1e-5) and np.isnan(found.values["attention_kl"][:, 0]).all()
    assert found.documents[0].images == "task 9" and found.similarity.units == 1


def test_any_transformers_model(tmp_path):
    folder = tiny_hf.unlimited_ocr(tmp_path / "hf")
    encoders = "sam:model.vision_tower.sam_encoder+clip:model.vision_tower.vision_encoder"
    subject, labels = subject_of("hf_masked", {"pretrained": str(folder), "encoders": encoders})
    found = explaining.measure(subject, DOCUMENTS, labels, ["divergence"], 2)
    assert (found.values["kl"][0] == 0).all() and (found.values["kl"][1:] > 0).all()


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """The command on the demo, once."""
    pytest.importorskip("lmms_eval")
    out = tmp_path_factory.mktemp("explained") / "explain.json"
    tasks = "redundancy_demo_ocr,redundancy_demo_chart"
    asked = ["--model", "eagle_masked", "--model_args", "pretrained=demo,dtype=float32", "--task", tasks]
    model, sample = asked[:4], out.parent / "sample.safetensors"
    assert main(["calibrate", *model, "--task", "redundancy_demo_ocr", "--count", "12", "-o", str(sample)]) == 0
    assert main(["explain", *asked, "--count", "3", "--calibration", str(sample), "-o", str(out)]) == 0
    return out


@pytest.mark.framework
def test_what_the_other_encoders_do_not_tell_is_the_calibration_s(explained, tmp_path, capsys):
    sample = explained.parent / "sample.safetensors"
    r2 = calibration.told_r2(ablations.read(sample, sums=True))
    untold = explain_file.read(explained).encoder_values["untold"]
    assert untold == pytest.approx([1 - r2[name] for name in ("clip", "convnext", "pix2struct", "eva02")], abs=1e-6)
    assert max(untold) <= 1.5 and len(set(untold)) == 4
    wanted = ["--model_args", "pretrained=demo,dtype=bfloat16", "--task", "redundancy_demo_ocr", "--count", "1"]
    out = ["--calibration", str(sample), "-o", str(tmp_path / "x.json")]
    assert main(["explain", "--model", "eagle_masked", *wanted, *out]) == 2
    assert "was made in float32, the model runs in bfloat16" in capsys.readouterr().err


@pytest.mark.framework
def test_the_command_writes_all_it_measured(explained):
    found = explain_file.read(explained)
    assert found.encoders == ("clip", "convnext", "pix2struct", "eva02") and len(found.masks) == 10
    drawn = [(each.task[-5:], int(each.document)) for each in found.documents]
    assert [(task, number // 80) for task, number in drawn] == [(t, i) for t in ("o_ocr", "chart") for i in range(3)]
    assert len({number % 80 for _, number in drawn}) > 2  # not at a fixed distance
    with explained.with_suffix(".csv").open() as handle:
        rows = list(csv.DictReader(handle))
    mean = {row["of"]: float(row["value"]) for row in rows if row["measure"] == "kl" and row["kind"] == "mean"}
    at = found.masks.index(("pix2struct",))
    assert mean["drop=none"] == 0 and len(rows) > 200
    kl = [row for row in rows if (row["measure"], row["of"], row["kind"]) == ("kl", "drop=pix2struct", "mean")]
    assert float(kl[0]["value"]) == pytest.approx(found.values["kl"][at].mean(), rel=1e-4)
    assert kl[1]["unit"] == "nats per token" and float(kl[1]["value"]) < float(kl[0]["value"])


@pytest.mark.framework
def test_a_report_shows_it_beside_cur_and_verify_wants_it(explained, tmp_path, capsys):
    runs, out = sweep(tmp_path / "runs"), tmp_path / "out"

    def told(command, *arguments):
        code = main([command, *map(str, arguments)])
        return code, capsys.readouterr().err

    assert told("report", runs, "-o", out, "--explain", explained)[0] == 0
    text, page = (out / "report.md").read_text(), (out / "report.html").read_text()
    for shown in (text, page):
        assert "Inside the model, without labels" in shown and "attention KL from the full model, kept alone" in shown
    assert "Spearman" in (out / "explain_agreement.tex").read_text()
    content = json.loads((out / "report.json").read_text())
    assert content["options"]["explain"] and content["models"][0]["explain"]["agreement"]
    with (out / "explain.csv").open() as handle:
        assert {row["measure"] for row in csv.DictReader(handle)} >= {
            "kl",
            "surprise",
            "rank_share",
            "difference",
            "untold",
        }
    assert told("verify", out, runs, "--explain", explained) == (0, "")
    code, said = told("verify", out, runs)
    assert code == 2 and "made with a file of measures without labels: name it with --explain" in said
    other = tmp_path / "explain.json"
    for change, match in (
        ({"checkpoint": "another"}, "explains checkpoint another; the runs are of demo"),
        ({"arguments": {"ablation": "mean"}}, "explains ablation mean; the runs are of zero"),
    ):
        explain_file.write(replace(explain_file.read(explained), **change), other)
        code, said = told("report", runs, "-o", out, "--explain", other)
        assert code == 3 and match in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (["--model_args", "pretrained=demo,drop=clip"], "leave drop= and keep= out"),
        (["--count", "0"], "must be positive"),
        (["--only", "gradients"], "--only knows divergence, attention, similarity; not 'gradients'"),
        (["-o", "there"], "name a file that ends in .json"),
        (["--model", "masked"], "explain takes eagle_masked"),
        (["--model", "hf_masked", "--only", "attention"], "--only divergence"),
        (["--masks", "sam"], "unknown encoder 'sam'"),
    ],
)
def test_mistakes_are_one_line(more, match, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["--model", "eagle_masked", "--model_args", "pretrained=demo", "--task", "x", "-o", "e.json"]
    assert main(["explain", *asked, *more]) == 2
    said = capsys.readouterr().err
    assert match in said and said.count("\n") == 1


def test_it_replaces_its_own_files_only(tmp_path, capsys):
    out = tmp_path / "explain.json"
    out.write_text("{}")
    asked = ["--model", "eagle_masked", "--model_args", "pretrained=demo", "--task", "x", "-o", str(out)]
    assert main(["explain", *asked]) == 2 and "which no explain wrote" in capsys.readouterr().err
    out.unlink()
    out.with_suffix(".csv").write_text("mine")
    assert main(["explain", *asked]) == 2 and "which no explain wrote" in capsys.readouterr().err
