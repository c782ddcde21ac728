"""`explain.json`: what masks change in a model without labels, from `redundancy-eval explain` to a report."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redundancy_eval import beside_runs, files, masks, model_args
from redundancy_eval.errors import DataError, SetupError

NAME, SCHEMA = "explain.json", 1
KINDS = ("divergence", "attention", "similarity")  # of what is measured
_DIGITS = 7  # significant ones of a value; float32 holds no more
# Arguments that name places, which the checkpoint's name and the sample stand for.
_PLACES = ("pretrained", "encoder_weights", "calibration")
_USUAL = {"ablation": "zero", "site": "encoder", "global_context": "keep", "dtype": "auto"}


@dataclass(frozen=True)
class Document:
    """A document that was asked: its task and number, what tells its images from others', and the answer's tokens."""

    task: str
    document: str
    images: str
    tokens: int


@dataclass(frozen=True)
class Explained:
    """What was measured of a model under some masks.

    Attributes:
        model: model id.
        checkpoint: what `pretrained=` said.
        encoders: of the model, in its order.
        arguments: its model arguments that decide answers.
        framework: whose tasks the documents are.
        masks: in the order of the values' rows; the full model is among them.
        documents: in the order of the values' columns.
        values: measure (see MEASURES) -> (masks, documents); NaN where a document has none.
        encoder_values: measure of an encoder's features -> one number each, in the model's order.
        cka: (encoders, encoders), or None where it was not asked for.
        made_with: settings and counts, for reading.
    """

    model: str
    checkpoint: str
    encoders: tuple[str, ...]
    arguments: Mapping[str, str]
    framework: str
    masks: tuple[tuple[str, ...], ...]
    documents: tuple[Document, ...]
    values: Mapping[str, NDArray[np.float64]]
    encoder_values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    cka: tuple[tuple[float, ...], ...] | None = None
    made_with: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """How a measure is called, its unit, and whether it is a sum over the answer's tokens."""

    title: str
    unit: str
    along_answer: bool = False


# Of a mask and a document. Where they are defined: model_wrappers/diagnostics.
MEASURES = {
    "kl": Measure("KL from the full model", "nats", True),
    "reverse_kl": Measure("reverse KL", "nats", True),
    "js": Measure("Jensen-Shannon divergence", "nats", True),
    "surprise": Measure("-log p of the full model's answer", "nats", True),
    "again": Measure("KL of the full model in another batch", "nats", True),
    "attention_kl": Measure("attention KL from the full model", "nats"),
    "attention_js": Measure("attention Jensen-Shannon divergence", "nats"),
    "attention_mass": Measure("attention on visual tokens", "share"),
    "attention_infinite": Measure("attention KL of a head infinite in float16", "share of documents"),
}
# Of an encoder.
ENCODER_MEASURES = {
    "rank": Measure("effective rank of its features", "directions"),
    "rank_share": Measure("effective rank / channels", "share"),
    "difference": Measure("1 - mean CKA with the others", "share"),
    "untold": Measure("1 - R2 from the others", "share"),
}


def deciding(arguments: Mapping[str, str]) -> dict[str, str]:
    """Those of a model's arguments that decide what is measured, but for places and what is usual."""
    told = {key: value for key, value in model_args.deciding(arguments).items() if key not in _PLACES}
    if "dtype" in told:
        told["dtype"] = model_args.DTYPES.get(told["dtype"], told["dtype"])
    return {key: str(value) for key, value in told.items() if _USUAL.get(key) != str(value)}


def check_out(out: Path) -> None:
    """Refuse to replace what no explain wrote.

    Raises:
        SetupError: the file, or the CSV beside it, is there and is something else.
    """
    if out.suffix != ".json" or out.is_dir():
        raise SetupError(f"-o {out}: name a file that ends in .json; a table of the same name in .csv comes beside it")
    there = next((path for path in (out, out.with_suffix(".csv")) if path.exists()), None)
    if there is None:
        return
    try:
        read(out)
    except (SetupError, DataError):
        raise SetupError(f"-o {out} would write over {there}, which no explain wrote; choose another") from None


def write(found: Explained, path: Path) -> None:
    """Write a file that `read` reads; values are rounded to what float32 holds."""
    content = {
        "schema": SCHEMA,
        "model": found.model,
        "checkpoint": found.checkpoint,
        "encoders": list(found.encoders),
        "arguments": dict(found.arguments),
        "framework": found.framework,
        "made_with": dict(found.made_with),
        "masks": [masks.label(mask, found.encoders) for mask in found.masks],
        "documents": [[each.task, each.document, each.images, each.tokens] for each in found.documents],
        "values": {name: [_plain(row) for row in values.tolist()] for name, values in found.values.items()},
        "encoder_values": {name: _plain(values) for name, values in found.encoder_values.items()},
        "cka": None if found.cka is None else [_plain(row) for row in found.cka],
    }
    files.write_json(path, content)


def _plain(values: Sequence[float]) -> list[float | None]:
    return [float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None for value in values]


def read(path: Path) -> Explained:
    """What a file says.

    Raises:
        SetupError: it is not there.
        DataError: it is damaged, or of another version.
    """
    if not path.exists():
        raise SetupError(f"no such file: {path} (redundancy-eval explain writes it)")
    content = files.read_json(path)
    beside_runs.check_kind(content, "explain", path)
    if content.get("schema") != SCHEMA:
        raise DataError(f"{path}: schema {content.get('schema')!r}; this version reads {SCHEMA}")
    try:
        return _read(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not what redundancy-eval explain writes ({type(error).__name__}: {error})") from None
    except SetupError as error:
        raise DataError(f"{path}: {error}") from None


def _read(content: Mapping[str, Any]) -> Explained:
    encoders = tuple(map(str, content["encoders"]))
    rows = tuple(masks.dropped(encoders, str(label)) for label in content["masks"])
    documents = tuple(Document(str(t), str(d), str(i), _count(n)) for t, d, i, n in content["documents"])
    values = {_known(name, MEASURES): _numbers(each, len(documents)) for name, each in content["values"].items()}
    own = {
        _known(name, ENCODER_MEASURES): tuple(_numbers([each], len(encoders))[0].tolist())
        for name, each in content["encoder_values"].items()
    }
    if len(set(rows)) < len(rows) or () not in rows:
        raise ValueError("masks must be different ones, the full model among them")
    if any(len(each) != len(rows) for each in values.values()):
        raise ValueError("a measure has not a row for each mask")
    cka = content["cka"]
    if cka is not None:
        cka = tuple(map(tuple, _numbers(cka, len(encoders)).tolist()))
        if len(cka) != len(encoders):
            raise ValueError("cka has not a row for each encoder")
    return Explained(
        str(content["model"]), str(content["checkpoint"]), encoders,
        {str(key): str(value) for key, value in content["arguments"].items()},
        str(content["framework"]), rows, documents, values, own, cka, dict(content["made_with"]),
    )  # fmt: skip


def _known(name: str, measures: Mapping[str, Measure]) -> str:
    if name not in measures:
        raise ValueError(f"{name!r} is no measure")
    return name


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} is no number of tokens")
    return value


def _numbers(rows: Any, width: int) -> NDArray[np.float64]:
    for row in rows:
        wrong = [v for v in row if isinstance(v, bool) or not (v is None or isinstance(v, int | float))]
        if len(row) != width or wrong:
            raise ValueError(f"{wrong[0]!r} is no number" if wrong else f"a row of {len(row)} values, not {width}")
    return np.array([[math.nan if value is None else value for value in row] for row in rows], dtype=np.float64)


def check_fits(
    found: Explained, model: str, checkpoint: str, encoders: Sequence[str], arguments: Mapping[str, str], where: object
) -> None:
    """Refuse measures that are not of the model of some runs.

    Args:
        found: as `read` gave them.
        model: model id of the runs.
        checkpoint: what their `pretrained=` says.
        encoders: of the model, in its order.
        arguments: their model arguments.
        where: the file, for messages.

    Raises:
        DataError: they are another model's, or masks mean something else there.
    """
    mine = {"model": found.model, "checkpoint": found.checkpoint, "encoders": "+".join(found.encoders)}
    theirs = {"model": model, "checkpoint": checkpoint, "encoders": "+".join(encoders)}
    ours, runs = deciding(found.arguments), deciding(arguments)
    for name in sorted({*ours, *runs} - {"dtype", "attn_implementation"}):  # these move numbers, not what they mean
        mine[name], theirs[name] = (each.get(name, _USUAL.get(name, "")) for each in (ours, runs))
    beside_runs.check_same(mine, theirs, "explains", where)
