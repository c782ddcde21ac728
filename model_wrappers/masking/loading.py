"""What the entry points of both frameworks share: errors in one line, checked arguments, loading, and what to say."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from redundancy_eval import environment, shown
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.masking import checked_arguments, hf, native

Model = native.MaskedModel | hf.HfMaskedModel
OURS = (SetupError, DataError)
arguments = checked_arguments.allowed  # of a model, beside pretrained, drop, keep and device


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn our errors into one line and a non-zero exit: the frameworks exit 0 on any exception."""
    try:
        yield
    except OURS as error:
        _end(error)
    except ImportError as error:  # of what a family alone imports
        _end(SetupError(environment.explain("the model", "models", error)))


def _end(error: SetupError | DataError) -> NoReturn:
    print(f"redundancy-eval: error: {shown.line(error)}", file=sys.stderr, flush=True)
    raise SystemExit(error.exit_code) from error


def load(model_id: str, given: Mapping[str, Any], device: Any = None) -> Model:
    """The model under the mask that its arguments tell.

    Args:
        model_id: `eagle_masked`, ..., `hf_masked`.
        given: its arguments.
        device: torch device, unless the arguments name one.

    Raises:
        SetupError: an argument that it does not have, or anything wrong with one or with the checkpoint.
    """
    checked_arguments.check(model_id, given)
    settings = {"device": device, **given}
    if model_id == hf.MODEL_ID:
        return hf.load(**settings)
    return native.load(model_id, **settings)


def remarks(model: Model) -> list[str]:
    """What was done to prompts so far, in a line for each kind."""
    kinds = (
        (model.cut, "prompts were cut at the model's length limit"),
        (model.first, "prompts have too many images for the model; the first were kept"),
        (
            model.moved,
            "prompts have image tags that are words, or that do not fit their images, which were put in front",
        ),
    )
    said = [f"{len(names)} {what}: {', '.join(map(shown.text, names))}" for names, what in kinds if names]
    if isinstance(model, hf.HfMaskedModel):
        run_record.tell_feeds(model.feeds())
        said += feeding(model.feeds())
    return said


def feeding(feeds: Sequence[str]) -> list[str]:
    """A line on each dropped encoder that a kept one sees through (`sam feeds clip`)."""
    return [
        f"{text}: dropping it changes what the other sees too, so what is lost is not its own share alone"
        for text in feeds
    ]
