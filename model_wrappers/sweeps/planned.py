"""The numbers of a plan: plain data; what is not known is None."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redundancy_eval.deciding import Decidable


@dataclass(frozen=True)
class Task:
    """What is asked in a task, and how long its prompts are on average, in tokens without and with images.

    `repeats` counts the questions on whose images another one was asked shortly before (see `Sweep._windows`),
    `token_limits` the questions under each limit of new tokens. None: not known, with hooks.
    """

    name: str
    documents: int
    questions: int
    images: int
    repeats: int
    token_limits: Mapping[str, int]
    text_tokens: float | None
    prompt_tokens: float | None

    @property
    def length(self) -> float:
        """Tokens of a prompt, where they are known."""
        assert self.prompt_tokens is not None
        return self.prompt_tokens


@dataclass(frozen=True)
class Passes:
    """Images that go through each encoder, in the sweep and in a separate run for each mask."""

    sweep: Mapping[str, int]
    separate: Mapping[str, int]


@dataclass(frozen=True)
class Prefills:
    """Prompts that are put to the language model, in the sweep and in separate runs.

    `blind_shared` are saved as no encoder runs under their masks, `images_shared` begin as another in their batch;
    `full_model_again` are the full model's once more, in half precision.
    """

    sweep: int
    separate: int
    blind_shared: int
    images_shared: int
    full_model_again: int


@dataclass(frozen=True)
class Stored:
    """What a store holds: answers of each mask to the questions, `of` how many; and answers to other questions."""

    answered: Mapping[str, int]
    of: int
    to_other_questions: int
    mean_new_tokens: float | None


@dataclass(frozen=True)
class Work:
    """Operations; None where an encoder's are not known."""

    encoders: float | None
    fusion: float
    prefill: float
    decode_expected: float
    decode_worst: float
    expected: float | None
    worst: float | None


@dataclass(frozen=True)
class Flops:
    """Operations of an image in each encoder and in the fusion, its visual tokens, and all of both ways."""

    encoder: Mapping[str, float | None]
    fusion: float
    visual_tokens: int
    sweep: Work
    separate: Work


@dataclass(frozen=True)
class Memory:
    """Bytes of what is large; None where one is not known. `batch_size` and `longest_sequence` are counts.

    `stand_ins` are the linear guesses of all masks, on the device; `covariances` what they are solved from.
    """

    parameters: int | None
    weights: int | None
    weight_files: int | None
    outputs_an_image: int
    feature_memory: int
    images_kept: int
    cache_a_token: int
    batch_size: int
    longest_sequence: int
    cache_a_batch: int
    stand_ins: int = 0
    covariances: int = 0


@dataclass(frozen=True)
class Plan:
    """All numbers of a plan; its fields in this order are its JSON form. None where one is not known."""

    schema: int
    model: str
    checkpoint: str | None
    device: str
    dtype: str
    encoders: Sequence[str]
    masks: Sequence[str]
    tasks: Sequence[Task]
    documents: int
    questions: int
    images: int
    distinct_images: int | None
    passes: Passes
    prefills: Prefills
    expected_new_tokens: float
    store: Stored | None
    flops: Flops | None
    memory: Memory | None
    assumptions: Sequence[str]
    framework: str = ""
    command: Sequence[str] = ()
    decidable: Sequence[Decidable] = ()
    decidable_by: str = ""
