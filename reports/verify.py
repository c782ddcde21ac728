"""Whether a written report follows from the runs."""

import re
from itertools import zip_longest
from pathlib import Path

from redundancy_eval import shown
from redundancy_eval.errors import DataError
from redundancy_eval.options import FIGURES, Options
from redundancy_eval.reports import write
from redundancy_eval.reports.additions import Additions
from redundancy_eval.reports.report import Report

_DRAWN = tuple(f".{kind}" for kind in FIGURES)


def verify(report: Report, out: Path, additions: Additions | None = None) -> tuple[int, int]:
    """Compare a written report with one made anew; drawn figures depend on matplotlib and fonts, their CSVs do not.

    Returns:
        how many numbers in how many files were compared.

    Raises:
        DataError: a file is missing, or a line differs (but for our own version); with file and line of the first.
    """
    numbers, wrong = 0, []
    made = {name: content for name, content in write.files(report, additions).items() if not name.endswith(_DRAWN)}
    for name, content in made.items():
        path = out / name
        if not path.is_file():
            wrong.append(f"{path} is missing")
            continue
        want, found = (_unversioned(t.decode("utf-8", "replace")).splitlines() for t in (content, path.read_bytes()))
        numbers += sum(len(re.findall(r"\d+(?:\.\d+)?", line)) for line in want)
        differing = ((i, pair) for i, pair in enumerate(zip_longest(found, want, fillvalue="")) if pair[0] != pair[1])
        first = next(differing, None)
        if first or len(found) != len(want):
            line, (printed, given) = first or (len(want), ("", ""))
            wrong.append(f"{path}:{line + 1}: printed is {printed.strip()!r}, the runs give {given.strip()!r}")
    if wrong:
        more = f" (and {len(wrong) - 1} other files differ)" if len(wrong) > 1 else ""
        raise DataError(wrong[0] + more)
    return numbers, len(made)


def _unversioned(text: str) -> str:
    return re.sub(r"(\|redundancy-eval:)[\w.+-]+", r"\1", text)


def told(report: Report) -> list[str]:
    """Of the options that a report was made with, those on which its numbers rest beside the runs, in a line each."""
    options = report.options
    lines = [f"--mask-of {shown.text(rule)}: these runs' mask is the report's word" for rule in options.mask_of]
    if options.encoders:
        lines.append(
            f"--encoders {shown.text(','.join(options.encoders))}: the report's word, where no run records them"
        )
    for kind in options.lenient:
        count = sum(note.startswith(f"warning ({kind})") for said in report.models for note in said.notes)
        lines.append(f"--lenient {shown.text(kind)}: {count or 'no'} warning{'s' * (count != 1)}")
    if options.taxonomy != Options().taxonomy:
        lines.append(f"--taxonomy {shown.text(options.taxonomy)}: {report.models[0].model.table.taxonomy.label}")
    lines += ["--mmvp-pairs"] * options.mmvp_pairs
    if options.scale is not None:
        lines.append(f"--scale {options.scale:g}: the report's word on scores in CSV files")
    return lines
