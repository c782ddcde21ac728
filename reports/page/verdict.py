"""What the page says first, by rule from verdicts alone: which encoders the model relies on, and what to doubt."""

import math
from collections.abc import Mapping, Sequence

from redundancy_eval import stand_ins
from redundancy_eval.reports import digits
from redundancy_eval.reports.subject import Subject
from redundancy_eval.statistics import games, verdicts
from redundancy_eval.uncertainty import OVERALL, Cell

_MOST_EXCEPTIONS, _MOST_DOUBTS = 2, 6
_POSITIVE = (verdicts.NEEDED, verdicts.RELIED_ON)
_BETTER_WITHOUT = (verdicts.DETRIMENTAL, verdicts.HARMFUL)
_LOOSE = (verdicts.REDUNDANT, verdicts.REPLACEABLE, *_BETTER_WITHOUT)


def needed(subject: Subject) -> bool:
    """Whether dropped outputs were predicted from the other encoders, so that "needed" may be said."""
    return subject.table.ablation == stand_ins.PREDICTED


def positive(cell: Cell) -> bool:
    """Whether a verdict says that the model relies on the encoder (or needs it), below the margin or not."""
    return cell.verdict.startswith(_POSITIVE)


def headline(subject: Subject) -> tuple[str, str]:
    """The verdict on all encoders: what is said first, and what else belongs to it.

    By their overall CURs (see `Subject.main`). With linear stand-ins, what is needed comes before what is relied on.
    """
    cells = {name: subject.cell(name, subject.main) for name in subject.order}
    words = {name: subject.verdict(name, subject.main) for name in subject.order}
    if all(word == verdicts.NOT_KNOWN for word in words.values()):
        reason = next((cell.cur.reason for cell in cells.values() if cell.cur.reason), "no encoder was dropped alone")
        return f"No {'overall ' if subject.main == OVERALL else ''}verdict is given: {reason}.", _by_category(subject)
    shown = subject.stand_ins or subject  # what may go is what may go with stand-ins
    said = _claims(subject, words, shown)
    loose = [name for name, word in words.items() if word.startswith(_LOOSE)]
    said.append(_exceptions(shown, loose))
    more = [_relied(subject, cells)] if subject.stand_ins else []
    more += [_together(shown, loose), *_substitutes(shown, loose)] if loose else []
    undecided = [name for name, word in words.items() if word == verdicts.UNDECIDED]
    if undecided:
        wanted = _documents(shown.cell(undecided[0], subject.main)) if len(undecided) == 1 else ""
        more.append(f"{_names(subject, undecided)} {_are(undecided)} undecided{wanted}.")
    unknown = [name for name, word in words.items() if word == verdicts.NOT_KNOWN]
    if unknown:
        reason = shown.cell(unknown[0], subject.main).cur.reason or cells[unknown[0]].cur.reason
        more.append(f"Of {_names(subject, unknown)} nothing is known: {reason}.")
    return " ".join(filter(None, said)), " ".join(filter(None, more))


def _relied(subject: Subject, cells: Mapping[str, Cell]) -> str:
    """What zeros say beside stand-ins."""
    found = sorted((name for name, cell in cells.items() if positive(cell)), key=lambda name: -cells[name].cur.value)
    other = ", in another order" if found != [name for name in subject.order if name in found] else ""
    return f"Under zeros it relies on {_names(subject, found, subject)}{other}." if found else ""


def _by_category(subject: Subject) -> str:
    """Where nothing can be said overall: what is said of each category."""
    said = []
    for place in subject.places[1:]:
        groups: dict[str, list[str]] = {}
        for name in subject.order:
            groups.setdefault(subject.verdict(name, place), []).append(name)
        groups.pop(verdicts.NOT_KNOWN, None)
        if groups:
            said.append(f"{place}: {', '.join(f'{_names(subject, names)} {word}' for word, names in groups.items())}.")
    return " ".join(said)


def _claims(subject: Subject, words: Mapping[str, str], shown: Subject) -> list[str]:
    """What is shown of encoders: needed or relied on, replaceable, redundant, detrimental; `shown` has the CURs."""
    groups: dict[str, list[str]] = {}
    for name, word in words.items():
        groups.setdefault(word, []).append(name)
    verb, base = ("needs", "need") if needed(shown) else ("relies on", "rely on")
    n, curs = len(words), shown if subject.stand_ins else None
    sure = [name for word in _POSITIVE for name in groups.get(word, [])]
    if sure:
        counted = "its only encoder" if n == 1 else f"{'all' if len(sure) == n else len(sure)} of its {n} encoders"
        said = [f"The model {verb} {counted}: {_names(subject, sure, curs)}."]
    else:
        said = [f"The model is not shown to {base} any one of its {n} encoders beyond the margin."]
    little = [name for word in _POSITIVE for name in groups.get(word + verdicts.BELOW_MARGIN, [])]
    if little:
        margin = digits.percent(subject.analysis.settings.margin)
        said.append(f"It {verb} {_names(subject, little, curs)}, but less than the margin of {margin}.")
    replaceable = groups.get(verdicts.REPLACEABLE, [])
    if replaceable:
        said.append(f"The others replace {_names(subject, replaceable)}, on which it relies.")
    redundant = groups.get(verdicts.REDUNDANT, [])
    if redundant:
        said.append(f"Dropped alone, {_names(subject, redundant)} {_are(redundant)} redundant.")
    harmful = [name for word, names in groups.items() if word.startswith(_BETTER_WITHOUT) for name in names]
    if harmful:
        said.append(f"It scores higher without {_names(subject, harmful)}.")
    return said


def _together(subject: Subject, names: Sequence[str]) -> str:
    """What dropping all that is not relied on changes, with its interval, and saves."""
    mask = subject.ordered(names)
    what = "it" if len(names) == 1 else "both together" if len(names) == 2 else f"all {len(names)} together"
    if mask not in subject.table.masks:
        return f"A mask that drops {what} was not run."
    change, level = subject.change(mask, subject.main), digits.percent(subject.analysis.settings.level)
    if not math.isfinite(change.value):
        return f"What dropping {what} changes is not known: {change.reason}."
    between = digits.interval(change, sign=True)
    without = f"With stand-ins for {_names(subject, mask)}" if needed(subject) else f"Without {what}"
    said = f"{without} the score changes by {digits.value(change, sign=True)} points"
    said += f" ({level} interval {between})" if between else " (no interval)"
    saved = [
        f"{digits.plain(100 * (1 - share), 0)} % of {column}"
        for column in (subject.costs.wholes if subject.costs else ())
        if math.isfinite(share := subject.costs.share(column, mask) if subject.costs else math.nan)
    ]
    return said + (f", and {' and '.join(saved)} {'go' if len(saved) > 1 else 'goes'}." if saved else ".")


def _substitutes(subject: Subject, names: Sequence[str]) -> list[str]:
    """What an encoder that may be dropped alone is shown to stand in for, the strongest first."""
    found = [
        pair
        for pair in subject.pairs(subject.main)
        if pair.at_full_word == games.SUBSTITUTES and set(pair.encoders) & set(names)
    ]
    found.sort(key=lambda pair: pair.at_full.value)
    return [
        f"{_names(subject, subject.ordered(pair.encoders))} stand in for each other: dropping both costs "
        f"{digits.plain(-pair.at_full.value, digits.decimals(pair.at_full))} points more than the two drops together."
        for pair in found[:_MOST_EXCEPTIONS]
    ]


def _exceptions(subject: Subject, names: Sequence[str]) -> str:
    """Categories that rely on an encoder that is redundant overall."""
    verb = "needs" if needed(subject) else "relies on"
    found = [
        f"{place} {verb} {_names(subject, [name])} (CUR {digits.value(cell.cur, 100)} %)"
        for name in names
        for place in subject.places[1:]
        if positive(cell := subject.cell(name, place))
    ]
    if not found:
        return ""
    more = len(found) - _MOST_EXCEPTIONS
    tail = f"; and {more} more" if more > 0 else ""
    return f"But {'; '.join(found[:_MOST_EXCEPTIONS])}{tail}."


def _documents(cell: Cell) -> str:
    """How many documents would decide; of several encoders, their cards tell."""
    wanted = cell.documents_to_decide
    return f" (about {wanted:,.0f} documents would decide)" if math.isfinite(wanted) else ""


def _names(subject: Subject, names: Sequence[str], curs: Subject | None = None) -> str:
    """Encoders by name, with their CURs of another subject."""
    shown = [subject.looks[name].name for name in names]
    if curs is not None:
        found = [digits.value(curs.cell(name, curs.main).cur, 100) for name in names]
        shown = [f"{name} ({'CUR ' * (not i)}{cur} %)" for i, (name, cur) in enumerate(zip(shown, found, strict=True))]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _are(names: Sequence[str]) -> str:
    return "are" if _many(names) else "is"


def _many(names: Sequence[str]) -> bool:
    return len(names) > 1


def doubts(subject: Subject) -> list[str]:
    """What to mind before a number is quoted, the most serious first."""
    told = [*subject.table.notes, *(subject.stand_ins.table.notes if subject.stand_ins else ())]
    found = [note for note in dict.fromkeys(told) if note.startswith("warning (")]
    full, floor = subject.score((), subject.main), subject.floor(subject.main)
    if floor and floor.points.value >= full.value / 2:
        share = digits.plain(100 * floor.points.value / full.value, 0)
        found.append(
            f"With every encoder dropped {share} % of the full score is left: so much is right without seeing "
            "anything, and CUR counts from 0, not from there"
        )
    if subject.below_floor:
        count = len(subject.below_floor)
        found.append(
            f"{count} of {len(subject.table.masks)} masks {'score' if count > 1 else 'scores'} surely below the model "
            "without any encoder: what is lost there is not information alone, the model has lost its way"
        )
    points_only = [cell for cell in subject.analysis.cells if not digits.known(cell.cur) and cell.place == subject.main]
    if points_only:
        found.append(f"There are no intervals: {points_only[0].cur.reason or 'the reason is not known'}")
    n = len(subject.encoders)
    if subject.table.guessed:
        found.append("The model may have more encoders than its masks name")
    elif len(subject.table.masks) < 2**n:
        found.append(
            f"{len(subject.table.masks)} of {2**n} masks were run: how encoders act together is known of these alone"
        )
    if subject.stand_ins is not None:
        found.append(
            "With stand-ins, what is lost is an upper bound of what an encoder alone tells: the guess is linear and at "
            "the same place, and what sampling its images adds is in no interval"
        )
    elif not needed(subject):
        found.append(
            "A dropped output is replaced by a stand-in that the model did not meet in training: this shows what the "
            "model relies on, not what it could not do without"
        )
    few = {cell.cur.note for cell in subject.analysis.cells if cell.cur.note}
    found += [f"Some intervals rest on {note}: they are wide, and may still be too narrow" for note in sorted(few)[:1]]
    for sign in ("length limit", "empty"):
        notes = [note for note in subject.table.notes if sign in note]
        others = f" (and {len(notes) - 1} more like this)" if len(notes) > 1 else ""
        found += [f"{notes[0]}{others}"] if notes else []
    found += [note for note in subject.analysis.notes if "second time" in note]
    more = len(found) - _MOST_DOUBTS
    return [*found[:_MOST_DOUBTS], f"{more} more: see the notes at the end"] if more > 0 else found
