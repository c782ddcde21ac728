"""`cost.json`: what the masks of a model cost, as `redundancy-eval cost` writes it and a report joins it to scores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redundancy_eval import beside_runs, files, masks
from redundancy_eval.errors import DataError, SetupError

NAME, TABLE, SCHEMA = "cost.json", "cost.csv", 1
# What is counted, by its name in the file -> as it is printed. The first is the one that scores are drawn against.
COUNTED = {
    "flops": "FLOPs", "flops_encoders": "FLOPs, encoders", "flops_fusion": "FLOPs, projectors and fusion",
    "flops_prefill": "FLOPs, prefill", "flops_decode": "FLOPs, decode", "parameters": "parameters", "bytes": "bytes",
}  # fmt: skip
MEASURED = {
    "first_token": "seconds to the first token", "next_token": "seconds for a further token",
    "images_per_second": "images a second, one by one", "images_per_second_batch": "images a second, in batches",
    "peak_bytes": "peak memory in bytes",
}  # fmt: skip
# Model arguments that change what a model costs, and what holds where they are not given.
COSTLY = {"site": "encoder", "global_context": "keep", "max_tiles": "", "image_mode": "", "processor": "original"}


@dataclass(frozen=True)
class Measured:
    """Repeated measurements: median, and the quartiles around it."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class MaskCost:
    """What one mask costs.

    Attributes:
        mask: dropped encoders, in the model's order.
        counted: COUNTED's names -> amounts; NaN where one is not known.
        measured: MEASURED's names -> measurements; those that were made.
    """

    mask: tuple[str, ...]
    counted: Mapping[str, float]
    measured: Mapping[str, Measured] = field(default_factory=dict)


@dataclass(frozen=True)
class CostsFile:
    """What the masks of a model cost.

    Attributes:
        model: model id.
        checkpoint: what `pretrained=` said.
        encoders: of the model, in its order.
        arguments: its model arguments that change costs.
        assumptions: image, prompt, answer, number format and convention of the count, by name.
        masks: in the order of the table.
        reasons: why a counted amount is not known, by its name.
        measured_on: device and settings of the measurements; {} where none were made.
        notes: on the measurements.
    """

    model: str
    checkpoint: str
    encoders: tuple[str, ...]
    arguments: Mapping[str, str]
    assumptions: Mapping[str, Any]
    masks: tuple[MaskCost, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)
    measured_on: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def note(self) -> str:
        """How it was counted and measured, in a line."""
        said = [f"{name}: {value}" for name, value in self.assumptions.items()]
        if self.measured_on:
            said.append("measured: " + ", ".join(f"{name} {value}" for name, value in self.measured_on.items()))
        return "; ".join([*said, *self.reasons.values(), *self.notes])


@dataclass(frozen=True)
class Costs:
    """What masks cost: `columns` holds amounts in the order of `masks`, by the name that is printed.

    The first column is the one that scores are drawn against; `note` says how it was counted.
    """

    masks: tuple[tuple[str, ...], ...]
    columns: Mapping[str, Sequence[float]]
    note: str = ""

    @property
    def wholes(self) -> tuple[str, ...]:
        """The columns that are no part of another one, as `FLOPs, encoders` is of `FLOPs`."""
        whole = {each: each.partition(", ")[0] for each in self.columns}
        return tuple(each for each in self.columns if whole[each] == each or whole[each] not in self.columns)

    def share(self, column: str, mask: Sequence[str]) -> float:
        """A mask's amount as a fraction of the full model's; NaN where either is not known or zero."""
        amounts = {tuple(sorted(each)): amount for each, amount in zip(self.masks, self.columns[column], strict=True)}
        full, own = amounts.get((), math.nan), amounts.get(tuple(sorted(mask)), math.nan)
        return own / full if full else math.nan


def costly(arguments: Mapping[str, str]) -> dict[str, str]:
    """Those of a model's arguments that change what it costs."""
    return {name: arguments.get(name, usual) for name, usual in COSTLY.items() if arguments.get(name, usual) != usual}


def check_out(out: Path) -> None:
    """Refuse a folder in which something else would be written over.

    Args:
        out: for NAME and TABLE.

    Raises:
        SetupError: it is a file, or holds files of these names that are not ours.
    """
    if out.exists() and not out.is_dir():
        raise SetupError(f"-o {out} is no folder")
    there = [name for name in (NAME, TABLE) if (out / name).exists()]
    if not there:
        return
    try:
        read(out)
    except (SetupError, DataError):
        message = f"-o {out} would write over {out / there[0]}, which no cost wrote; choose another folder"
        raise SetupError(message) from None


def write(costs: CostsFile, path: Path) -> None:
    """Write a file that `read` reads."""
    rows = []
    for row in costs.masks:
        counted = {name: None if math.isnan(value) else value for name, value in row.counted.items()}
        measured = {name: [each.median, each.low, each.high] for name, each in row.measured.items()}
        label = masks.label(row.mask, costs.encoders)
        rows.append({"mask": label, **counted, **({"measured": measured} if measured else {})})
    content = {
        "schema": SCHEMA, "model": costs.model, "checkpoint": costs.checkpoint, "encoders": list(costs.encoders),
        "arguments": dict(costs.arguments), "assumptions": dict(costs.assumptions), "masks": rows,
        "reasons": dict(costs.reasons), "measured_on": dict(costs.measured_on), "notes": list(costs.notes),
    }  # fmt: skip
    files.write_json(path, content)


def read(path: Path) -> CostsFile:
    """What a file says.

    Args:
        path: the file, or the folder that holds it.

    Raises:
        SetupError: it is not there.
        DataError: it is damaged, or of another version.
    """
    path = path / NAME if path.is_dir() else path
    if not path.exists():
        raise SetupError(f"no such file: {path} (redundancy-eval cost writes it)")
    content = files.read_json(path)
    beside_runs.check_kind(content, "cost", path)
    if content.get("schema") != SCHEMA:
        raise DataError(f"{path}: schema {content.get('schema')!r}; this version reads {SCHEMA}")
    try:
        encoders = tuple(map(str, content["encoders"]))
        rows = tuple(_row(row, encoders) for row in content["masks"])
        found = CostsFile(
            str(content["model"]), str(content["checkpoint"]), encoders, dict(content["arguments"]),
            dict(content["assumptions"]), rows, dict(content["reasons"]), dict(content["measured_on"]),
            tuple(content["notes"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not what redundancy-eval cost writes ({type(error).__name__}: {error})") from None
    except SetupError as error:
        raise DataError(f"{path}: {error}") from None
    twice = {row.mask for row in rows if [each.mask for each in rows].count(row.mask) > 1}
    if twice:
        raise DataError(f"{path}: drop={masks.label(min(twice), encoders)} stands in it twice")
    return found


def _row(row: Mapping[str, Any], encoders: Sequence[str]) -> MaskCost:
    counted = {name: math.nan if row[name] is None else _amount(row[name]) for name in COUNTED}
    measured = {name: Measured(*map(_amount, values)) for name, values in row.get("measured", {}).items()}
    unknown = set(measured) - set(MEASURED)
    if unknown:
        raise ValueError(f"{min(unknown)} is no measurement")
    return MaskCost(masks.dropped(encoders, row["mask"]), counted, measured)


def _amount(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r} is no amount")
    return float(value)


def join(
    costs: CostsFile, model: str, checkpoint: str, encoders: Sequence[str], arguments: Mapping[str, str], where: object
) -> Costs:
    """The costs of a model's masks, for its report.

    Args:
        costs: as `read` gave them.
        model: model id of the runs.
        checkpoint: what their `pretrained=` says.
        encoders: of the model, in its order.
        arguments: their model arguments.
        where: the file, for messages.

    Raises:
        DataError: they are another model's.
    """
    of_costs = {"model": costs.model, "checkpoint": costs.checkpoint, "encoders": "+".join(costs.encoders)}
    of_runs = {"model": model, "checkpoint": checkpoint, "encoders": "+".join(encoders)}
    names = sorted({*costly(costs.arguments), *costly(arguments)})
    of_costs |= {name: costs.arguments.get(name, COSTLY[name]) for name in names}
    of_runs |= {name: arguments.get(name, COSTLY[name]) for name in names}
    beside_runs.check_same(of_costs, of_runs, "costs of", where)
    columns = {title: tuple(row.counted[name] for row in costs.masks) for name, title in COUNTED.items()}
    for name, title in MEASURED.items():
        if any(name in row.measured for row in costs.masks):
            columns[title] = tuple(
                row.measured[name].median if name in row.measured else math.nan for row in costs.masks
            )
    return Costs(tuple(row.mask for row in costs.masks), columns, costs.note())
