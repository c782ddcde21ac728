"""What lmms-eval calls for a document of the paper's benchmarks.

Prompts and images come from lmms-eval's own task code, and its own scoring where that gives nothing to a reply that
says nothing. Every sample gets `accuracy`: its score (0..1), the question's id, the image's key (questions on one image
are not independent), and its stratum where the benchmark has strata. Modules of lmms-eval's tasks are imported inside
the functions that use them, so that one benchmark's requirements are not all the others'.
"""

import ast
import hashlib
import re
import string
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from redundancy_eval import metrics, taxonomy
from redundancy_eval.errors import DataError
from redundancy_eval.tasks.paper import answers

Doc = dict[str, Any]
Sample = dict[str, Any]

IMAGE_KEY = "redundancy_image"  # column that `image_keys` adds
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


# --- documents ---------------------------------------------------------------------------------------------------


def image_keys(dataset: datasets.Dataset) -> datasets.Dataset:
    """Add a key of each image's bytes, for benchmarks whose documents do not name their image."""
    encoded = dataset.select_columns("image").cast_column("image", datasets.Image(decode=False))
    keys = []
    for row in encoded:
        image = row["image"] or {}
        content = image.get("bytes") or (Path(image["path"]).read_bytes() if image.get("path") else b"")
        keys.append(hashlib.sha256(content).hexdigest()[:16])
    return dataset.add_column(IMAGE_KEY, keys)


def mme_docs(dataset: datasets.Dataset) -> datasets.Dataset:
    """The perception documents: the paper's MME score is perception alone."""
    return dataset.filter(lambda category: category in taxonomy.benchmark("MME").weights, input_columns="category")


def seedbench_docs(dataset: datasets.Dataset) -> datasets.Dataset:
    """The image documents; the others are videos."""
    return dataset.filter(lambda kind: kind == "image", input_columns="data_type")


def cv_bench_docs(dataset: datasets.Dataset) -> datasets.Dataset:
    """With image keys; the sources are checked here, before any answer is generated."""
    unknown = set(dataset["source"]) - set(taxonomy.benchmark("CV-Bench").weights)
    if unknown:
        raise DataError(f"CV-Bench: unknown source {sorted(unknown)[0]!r}")
    return image_keys(dataset)


@lru_cache(maxsize=1)
def _gqa_images() -> tuple[datasets.Dataset, dict[str, int]]:
    images = datasets.load_dataset("lmms-lab-encoder/GQA", "testdev_balanced_images", split="testdev")
    return images, {name: row for row, name in enumerate(images["id"])}


def gqa_visual(doc: Doc) -> list[Image.Image]:
    """The question's image, from GQA's own table of images."""
    images, rows = _gqa_images()
    return [images[rows[doc["imageId"]]]["image"].convert("RGB")]


def mathvista_visual(doc: Doc) -> list[Image.Image]:
    """The question's image."""
    return [doc["decoded_image"].convert("RGB")]


_MATHVISTA_HINTS = {
    "multi_choice": "Answer with the option's letter from the given choices directly.",
    "integer": "Answer the question using a single integer number.",
    "float1": "Answer the question using a single floating-point number with one decimal place.",
    "float2": "Answer the question using a single floating-point number with two decimal places.",
    "list": "Answer the question using a Python list.",
}


def mathvista_text(doc: Doc, lmms_eval_specific_kwargs: Doc | None = None) -> str:
    """lmms-eval's prompt of mathvista_testmini_format, whose module cannot be imported without a judge's key."""
    kind = doc["question_type"] if doc["question_type"] == "multi_choice" else doc["answer_type"]
    if kind == "float":
        kind += f"{int(doc['precision'])}"
    unit = f" (Unit: {doc['unit']})" if doc["unit"] else ""
    choices = [f"{letter}. {text}" for letter, text in _options(doc["choices"] or ()).items()]
    return "\n".join([doc["question"] + unit, *choices, _MATHVISTA_HINTS[kind]])


# --- scores of one reply -----------------------------------------------------------------------------------------


def _sample(score: float, question_id: object, image: object, **more: object) -> Sample:
    return {"accuracy": {"score": float(score), "question_id": str(question_id), "image": str(image), **more}}


def _options(texts: Sequence[Any]) -> dict[str, str]:
    return {letter: str(text) for letter, text in zip(string.ascii_uppercase, texts, strict=False)}


def _exact(reply: str, target: str) -> bool:
    """lmms-eval's exact_match, blind to case and punctuation."""
    return reply.lower().translate(_NO_PUNCTUATION) == target.lower().translate(_NO_PUNCTUATION)


def gqa(doc: Doc, results: list[str]) -> Sample:
    """As lmms-eval's gqa: exact match."""
    return _sample(_exact(results[0], doc["answer"]), doc["id"], doc["imageId"])


def mmbench(doc: Doc, results: list[str]) -> Sample:
    """One rotation of a question; strict. lmms-eval's own reading stands beside it."""
    from lmms_eval.tasks.mmbench import en_utils

    options = {c: str(doc[c]) for c in "ABCDE" if str(doc.get(c) or "nan") != "nan"}
    base = int(doc["index"]) % 1_000_000
    own = _sample(answers.option(results[0], options) == doc["answer"], doc["index"], base)
    return {**en_utils.mmbench_process_results(doc, results), **own}


def mme(doc: Doc, results: list[str]) -> Sample:
    """As lmms-eval's mme: yes or no at the start of the reply."""
    from lmms_eval.tasks.mme import utils

    found = utils.mme_process_results(doc, results)["mme_perception_score"]
    question = f"{doc['question_id']} {doc['answer'].lower()}"
    return _sample(found["score"], question, doc["question_id"], stratum=doc["category"])


def seedbench(doc: Doc, results: list[str]) -> Sample:
    """Strict; lmms-eval's own reading (the reply's first letter) stands beside it."""
    from lmms_eval.tasks.seedbench import utils

    options = {letter: str(doc[f"choice_{letter.lower()}"]) for letter in "ABCD"}
    right = answers.option(results[0], options) == doc["answer"].strip().upper()
    own = _sample(right, doc["question_id"], doc.get("data_id") or doc["question_id"])
    return {"seed_image": utils.seed_process_result(doc, results)["seed_image"], **own}


def ai2d_target(doc: Doc) -> str:
    """The right option's letter."""
    return string.ascii_uppercase[int(doc["answer"])]


def ai2d(doc: Doc, results: list[str]) -> Sample:
    """As lmms-eval's ai2d: the letter, alone or with a full stop at the start."""
    found = re.match(r"\s*([A-Z])\.", results[0])
    return _sample(_exact(found[1] if found else results[0], ai2d_target(doc)), "", doc[IMAGE_KEY])


def mathvista(doc: Doc, results: list[str]) -> Sample:
    """Strict and without a judge: the option, the number or the list that the reply holds, or nothing."""
    reply, answer = results[0], doc["answer"]
    if doc["question_type"] == "multi_choice":
        options = _options(doc["choices"])
        right = options.get(answers.option(reply, options)) == answer
    elif doc["answer_type"] == "list":
        right = answers.listing(reply) == answers.listing(answer)
    else:
        value = answers.number(reply)
        digits = int(doc["precision"] or 0) if doc["answer_type"] == "float" else 12
        right = value is not None and round(value, digits) == round(float(answer), digits)
    return _sample(right, doc["pid"], doc["image"])


def scienceqa(doc: Doc, results: list[str]) -> Sample:
    """As lmms-eval's scienceqa_img: the letter, alone or with a full stop at the start."""
    from lmms_eval.tasks.scienceqa import utils

    return _sample(utils.sqa_process_results(doc, results)["exact_match"], "", doc[IMAGE_KEY])


def mmmu(doc: Doc, results: list[str]) -> Sample:
    """Strict for options; open answers as MMMU reads them. lmms-eval's own reading (it guesses) stands beside it."""
    from lmms_eval.tasks.mmmu import utils

    if doc["question_type"] == "multiple-choice":
        right = answers.option(results[0], _options(ast.literal_eval(doc["options"]))) == doc["answer"]
    else:
        # Some answers are a list written as text, which lmms-eval's own scoring never unpacks.
        gold = ast.literal_eval(doc["answer"]) if doc["answer"].startswith("[") else doc["answer"]
        right = utils.eval_open(gold, utils.parse_open_response(results[0]))
    theirs = utils.mmmu_process_results(doc, results)["mmmu_acc"]
    return {"mmmu_acc": theirs, **_sample(right, doc["id"], doc["id"])}


def docvqa(doc: Doc, results: list[str]) -> Sample:
    """As lmms-eval's docvqa_val: ANLS."""
    from lmms_eval.api.metrics import anls

    page = f"{doc.get('ucsf_document_id') or doc.get('docId')} {doc.get('ucsf_document_page_no')}"
    return _sample(anls(doc["answers"], [results[0]])["anls"], doc["questionId"], page)


def ocrbench(doc: Doc, results: list[str]) -> Sample:
    """As lmms-eval's ocrbench: an answer occurs in the reply."""
    from lmms_eval.tasks.ocrbench import utils

    return _sample(utils.ocrbench_process_results(doc, results)["ocrbench_accuracy"]["score"], "", doc[IMAGE_KEY])


def textvqa(doc: Doc, results: list[str]) -> Sample:
    """As lmms-eval's textvqa_val: soft VQA accuracy over ten people's answers."""
    from lmms_eval.tasks.textvqa import utils

    return _sample(utils.textvqa_process_results(doc, results)["exact_match"], doc["question_id"], doc["image_id"])


def chartqa(doc: Doc, results: list[str]) -> Sample:
    """As lmms-eval's chartqa: relaxed correctness (numbers within 5 %)."""
    from lmms_eval.tasks.chartqa import utils

    own = _sample(utils.chartqa_process_results(doc, results)["relaxed_overall"], "", doc[IMAGE_KEY])
    own["accuracy"]["stratum"] = doc["type"]
    return own


def cv_bench(doc: Doc, results: list[str]) -> Sample:
    """Strict; lmms-eval's own reading (the reply's first letter) stands beside it."""
    from lmms_eval.tasks.cv_bench import utils

    right = answers.option(results[0], _options(doc["choices"])) == doc["answer"].strip("()")
    own = _sample(right, doc["idx"], doc[IMAGE_KEY], stratum=doc["source"])
    return {**utils.cv_bench_process_results(doc, results), **own}


def mmvp(doc: Doc, results: list[str]) -> Sample:
    """Strict; lmms-eval's own reading (a letter anywhere) stands beside it. Pairs are consecutive questions."""
    from lmms_eval.tasks.mmvp import utils

    theirs = utils.mmvp_process_results(doc, results)
    found = theirs["mmvp_accuracy"]
    options = {a.upper(): text.strip() for a, text in re.findall(r"\(([ab])\)([^(]*)", str(doc.get("Options", "")))}
    right = answers.option(results[0], options or {"A": "", "B": ""}) == found["gt"]
    own = _sample(right, found["index"], doc[IMAGE_KEY], pair=found["pair_index"])
    return {**theirs, **own, "pair_accuracy": own["accuracy"]}


def realworldqa(doc: Doc, results: list[str]) -> Sample:
    """Strict for options, as lmms-eval for open questions; its own reading (a letter anywhere) stands beside it."""
    from lmms_eval.tasks.realworldqa import utils

    theirs = utils.realworldqa_process_results(doc, results)["exact_match"]
    answer = doc["answer"].strip().upper()
    if answer in ("A", "B", "C", "D"):
        options = dict.fromkeys("ABCD", "") | dict(re.findall(r"^([A-D])\.\s*(.+)$", doc["question"], re.MULTILINE))
        right = float(answers.option(results[0], options) == answer)
    else:
        right = theirs
    return {"exact_match": theirs, **_sample(right, "", doc[IMAGE_KEY])}


# --- scores of a benchmark, 0..1 ---------------------------------------------------------------------------------


def _score(results: list[Sample], name: str, cluster: str = "image") -> float:
    benchmark = taxonomy.benchmark(name)
    sums = metrics.cluster_sums(
        [result["score"] for result in results],
        [result[cluster] for result in results],
        [result.get("stratum", "") for result in results],
        benchmark.rule,
    )
    return float(metrics.benchmark_score(sums, benchmark.weights))


def mean_score(results: list[Sample]) -> float:
    """The plain mean."""
    return sum(result["score"] for result in results) / len(results)


def mmbench_score(results: list[Sample]) -> float:
    """Share of questions that are right in every rotation."""
    return _score(results, "MMBench")


def mme_score(results: list[Sample]) -> float:
    """Mean over the subtasks of (accuracy + accuracy-plus) / 2: MME's perception points / 2000."""
    return _score(results, "MME")


def cv_bench_score(results: list[Sample]) -> float:
    """Mean of 2D (itself the mean of its two sources) and 3D."""
    return _score(results, "CV-Bench")


def mmvp_pairs_score(results: list[Sample]) -> float:
    """Share of pairs with both questions right."""
    return _score(results, "MMVP pairs", "pair")
