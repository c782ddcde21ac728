"""Writes result folders in lmms-eval's format, so that a test can damage or bend one thing."""

import json
from pathlib import Path

from redundancy_eval import scores, taxonomy
from redundancy_eval.readers import find

DEMO_TASKS = tuple(f"redundancy_demo_{c}" for c in ("general", "knowledge", "ocr", "chart", "vision_centric"))
GENERAL = DEMO_TASKS[0]
MASKS = ("none", "clip", "convnext", "pix2struct", "eva02", "all")


def write_run(folder: Path, drop: str, scores: dict, *, samples=True, stamp="20261121_120000", args="", **bend):
    """One run of `eagle_masked`; `scores` maps task -> list of 0/1 and the metric is their mean."""
    folder = folder / f"drop-{drop}" / "ck"
    folder.mkdir(parents=True, exist_ok=True)
    metric = bend.get("metric", "accuracy")
    results = {
        t: {"alias": t, f"{metric},none": sum(v) / len(v), f"{metric}_stderr,none": "N/A"} for t, v in scores.items()
    }
    config = {
        "dataset_path": "json",
        "generation_kwargs": {"max_new_tokens": 16, "until": ["\n\n"], **bend.get("generation", {})},
    }
    content = {
        "results": results,
        "configs": {task: {"task": task, **config} for task in scores},
        "versions": {task: bend.get("version", 1.0) for task in scores},
        "n-shot": {task: 0 for task in scores},
        "n-samples": {task: {"original": len(v), "effective": len(v)} for task, v in scores.items()},
        "config": {
            "model": "eagle_masked",
            "model_args": f"pretrained={bend.get('checkpoint', 'demo')},drop={drop}{args}",
            "limit": bend.get("limit"),
            "offset": 0,
            "gen_kwargs": "",
        },
        "lmms_eval_version": "unknown@unknown",
    }
    path = folder / f"{stamp}_results.json"
    path.write_text(json.dumps(content, indent=2))
    for task, values in scores.items() if samples else ():
        lines = [
            {
                "doc_id": i,
                "target": "red",
                "input": f"question {i}{bend.get('wording', '')}",
                metric: {"question_id": str(i), "score": float(value)},
            }
            for i, value in enumerate(values)
        ]
        (folder / f"{stamp}_samples_{task}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_sweep(folder: Path, table: dict[str, dict[str, list[int]]], **bend) -> Path:
    for drop, of_tasks in table.items():
        write_run(folder, drop, of_tasks, **bend)
    return folder


def right(count, of=10):
    """Scores of documents of which the first are right."""
    return [1] * count + [0] * (of - count)


def sweep(folder, **bend):
    """Leave-one-out runs: each mask has a right answer less than the one before, each task one less too."""
    table = {
        drop: {task: right(max(0, 8 - number - place)) for place, task in enumerate(DEMO_TASKS)}
        for number, drop in enumerate(MASKS)
    }
    return write_sweep(folder, table, **bend)


def table_of(folder, name="five", **options):
    """The one table of a folder."""
    from redundancy_eval.model_wrappers.families import registry

    (table,) = scores.tables(
        find.read([folder], taxonomy.load(name)),
        taxonomy.load(name),
        known_encoders=registry.known_encoders,
        **options,
    )
    return table


def csv_of(tmp_path, *lines, head="model,mask,benchmark,score,n"):
    path = tmp_path / "scores.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path
