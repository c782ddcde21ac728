"""The declared form of every JSON file that is read, checked once, at the reader's door.

A form names the keys that are looked at and what they may hold; other keys may hold anything.
"""

import re
from typing import Annotated, Any, TypedDict, TypeVar, cast

import msgspec

from redundancy_eval.errors import DataError

Form = TypeVar("Form")
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Documents(TypedDict, total=False):
    """How many documents a task has, and how many of them were asked."""

    original: Count | None
    effective: Count | None


class TaskConfig(TypedDict, total=False):
    """A task's settings in lmms-eval's results."""

    generation_kwargs: dict[str, Any] | None


class RunConfig(TypedDict, total=False):
    """What lmms-eval was started with."""

    model: str | None
    model_args: str | dict[str, Any] | None
    device: str | None
    batch_size: int | str | None
    predict_only: bool | None
    resolved_cli_args: dict[str, Any] | None


_Optional = TypedDict(
    "_Optional",
    {
        "configs": dict[str, TaskConfig] | None,
        "versions": dict[str, Any] | None,
        "n-shot": dict[str, Any] | None,
        "n-samples": dict[str, Documents] | None,
        "group_subtasks": dict[str, Any] | None,
        "lmms_eval_version": str | None,
    },
    total=False,
)


class Results(_Optional):
    """A results file of lmms-eval."""

    results: dict[str, dict[str, Any]]
    config: RunConfig


class TokenCounts(TypedDict, total=False):
    """Tokens of one reply."""

    input_tokens: Count | None
    output_tokens: Count | None


class _Sample(TypedDict, total=False):
    token_counts: list[TokenCounts | None] | None


class Sample(_Sample):
    """A line of lmms-eval's samples."""

    doc_id: int | str


class Resolved(TypedDict, total=False):
    """Where and how a model ran; see launch.resolved."""

    dtype: str
    device: str
    device_name: str
    attention: str
    batch_size: str
    processes: Count


class DataSetStatus(TypedDict, total=False):
    """What VLMEvalKit says of a data set."""

    status: str | None
    error_message: str | None
    skip_reason: str | None
    judge_model: str | None


class Status(TypedDict, total=False):
    """VLMEvalKit's `status.json`."""

    commit: str | None
    created_at: str | None
    model_name: str | None
    datasets: dict[str, DataSetStatus] | None


class Drawn(TypedDict):
    """What was drawn of a task's documents; see sample.Drawn."""

    drawn: Count
    of: Count
    clusters: tuple[Count, Count]
    strata: dict[str, tuple[Count, Count]]
    digest: str


class RandomSample(TypedDict):
    """A random sample of documents; see sample.Sample."""

    count: Count
    seed: Count
    tasks: dict[str, Drawn]


class Until(TypedDict):
    """A look of a sweep that asks in rounds; see until.Until."""

    margin: float
    look: Count
    looks: Count
    fractions: list[float]


class _Record(TypedDict, total=False):
    model: str
    encoders: list[str]
    mask: str
    checkpoint: str | None
    calibration: dict[str, Any] | None
    versions: dict[str, str]
    arguments: dict[str, str]
    passed: list[str]
    judge: str | None
    data: dict[str, str]
    command: list[str]
    sweep: bool
    resolved: Resolved
    files: dict[str, str]
    feeds: dict[str, list[str]]
    routed: dict[str, int]
    calibrated: int
    pruned: dict[str, Any]
    sample: RandomSample


class Record(_Record):
    """What a run of ours says about itself."""

    schema: int


class _ManifestFile(TypedDict, total=False):
    mtime_ns: int


class ManifestFile(_ManifestFile):
    """A file of a finished mask."""

    path: str
    size: Count
    sha256: str


class _Manifest(TypedDict, total=False):
    mask: str
    decides: dict[str, Any]
    versions: dict[str, str]
    command: list[str]


class Manifest(_Manifest):
    """What a finished mask's folder holds."""

    schema: int
    files: list[ManifestFile]


class Finished(TypedDict, total=False):
    """A finished sweep."""

    schema: int
    command: list[str]
    folders: list[str]
    checkpoint: Any
    around: dict[str, Any]


class ReportOptions(TypedDict):
    """How a report was made; see options.Options."""

    taxonomy: str
    mmvp_pairs: bool
    encoders: list[str]
    mask_of: list[str]
    lenient: list[str]
    scale: float | None
    level: float
    margin: float
    seed: int
    intervals: str
    rerun: bool
    figures: list[str]
    images: bool
    cost: bool
    compare: str
    references: list[str]
    explain: bool


class Report(TypedDict):
    """A written report, as far as `verify` reads it."""

    schema: int
    options: ReportOptions


class StoreHeader(TypedDict):
    """What the answers of a store were given by."""

    schema: int
    identity: dict[str, Any]


class _Answer(TypedDict, total=False):
    ids: list[int] | None
    log_probability: float | None


class Answer(_Answer):
    """A line of the response store; versions before wrote neither ids nor log-probability."""

    identity: str
    task: str
    split: str
    document: str
    prompt: str
    generation: str
    mask: str
    text: str
    prompt_tokens: int | None
    new_tokens: int | None
    capped: bool
    images: list[str]
    notes: list[str]


def check(content: Any, form: type[Form], where: object) -> Form:
    """What was read, known to have a form.

    Args:
        content: as `json` gives it.
        form: a class of this module.
        where: file, or file and line, for the error.

    Raises:
        DataError: a key holds something else, or is missing.
    """
    try:
        msgspec.convert(content, form)
    except (msgspec.ValidationError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{where}: {_plain(str(error))}") from None
    return cast(Form, content)


def _plain(text: str) -> str:
    """msgspec's message without markup, the place in front: `config.limit: expected int, got str`."""
    said, at, place = text.partition(" - at ")
    said = (said[:1].lower() + said[1:]).replace("`", "").replace("object", "an object", 1)
    said = re.sub(r"^an object missing required field (\S+)", r"the key \1 is missing", said)
    place = place.strip("`").removeprefix("$").removeprefix(".")
    return f"{place}: {said}" if at and place else said
