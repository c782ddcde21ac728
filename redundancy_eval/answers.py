"""What was asked, what is right and what each mask's model answered: texts and pictures of a few documents.

Tables hold scores alone. A page that shows answers asks an `Answers` for those of the documents that it chose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from redundancy_eval.table import Mask


@dataclass(frozen=True)
class Asked:
    """A document under several masks; `answers` by mask, names in alphabetical order."""

    question: str
    reference: str
    answers: Mapping[Mask, str]


class Answers(Protocol):
    """Where a page takes the texts and pictures of single documents from."""

    def asked(self, benchmark: str, documents: Sequence[str]) -> Mapping[str, Asked]:
        """What is known of documents, named as in the table's samples; those not known are left out."""

    def picture(self, benchmark: str, document: str) -> bytes | None:
        """The encoded image of a document, where it is at hand."""
