"""Scores of one model under its masks: from runs to a table, checked, with holes where a run is missing."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redundancy_eval import (
    compare,
    masks,
    metrics,
    model_args,
    read_csv,
    read_vlmevalkit,
    readers,
    replies,
    scoring,
    shown,
)
from redundancy_eval import taxonomy as taxonomies
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.runs import Leniency, MaskOf, Run, Samples, identity
from redundancy_eval.scoring import Scored
from redundancy_eval.table import Mask, SampleScores, ScoreTable
from redundancy_eval.taxonomy import Benchmark, Part, Taxonomy

OWN = "redundancy-eval"

KnownEncoders = Callable[[str, str], Sequence[str]]


def read(
    paths: Iterable[str | Path],
    options: readers.Options | None = None,
    known_encoders: KnownEncoders = lambda model, checkpoint: (),
) -> list[ScoreTable]:
    """One table for each model among the runs that are named by, or below, the paths.

    Raises:
        SetupError: an option or path is wrong.
        DataError: files are damaged, or runs can't stand in one table.
    """
    options = options or readers.Options()
    chosen = taxonomies.load(options.taxonomy, options.mmvp_pairs)
    lenient = Leniency(options.lenient)
    told = [MaskOf.parse(text) for text in options.mask_of]
    runs = readers.read(paths, chosen, lenient, told, options.scale)
    return tables(runs, chosen, options.encoders, known_encoders, lenient)


def tables(
    runs: Sequence[Run],
    taxonomy: Taxonomy,
    encoders: Sequence[str] = (),
    known_encoders: KnownEncoders = lambda model, checkpoint: (),
    lenient: Leniency | None = None,
) -> list[ScoreTable]:
    """One table for each model (and framework) among the runs.

    Args:
        runs: what was read.
        taxonomy: benchmarks and categories.
        encoders: the model's encoders in its order, when the user says so.
        known_encoders: (model id, checkpoint) -> encoders, () when it does not know.
        lenient: which kinds of bad data are warnings.

    Raises:
        DataError: runs that can't stand in one table (two of one mask, other documents or settings, ...).
    """
    lenient = lenient or Leniency()
    groups: dict[object, list[Run]] = {}
    for run in runs:
        groups.setdefault(identity(run), []).append(run)
    _share_full_models(groups)
    _check_checkpoints(groups.values(), lenient)
    shared = lenient.take()
    return [_Builder(group, taxonomy, encoders, known_encoders, lenient, shared).table() for group in groups.values()]


def _share_full_models(groups: dict[object, list[Run]]) -> None:
    """Give masked runs the full model that was run under another ablation or site: unmasked, they are one model."""
    full = {key: [run for run in group if run.is_full] for key, group in groups.items()}
    lent = set()
    for key, group in groups.items():
        if full[key]:
            continue
        for other, runs in full.items():
            if runs and identity(runs[0], of_full=True) == identity(group[0], of_full=True):
                group += runs
                lent.add(other)
                break
    for key in lent:
        if len(full[key]) == len(groups[key]):
            del groups[key]


def _check_checkpoints(groups: Iterable[Sequence[Run]], lenient: Leniency) -> None:
    """A masked run whose full model was not run, beside one of the same model id that was, is a mix-up."""
    full = {_named_as(g[0]): g[0] for g in groups if any(run.is_full for run in g)}
    for group in groups:
        other = full.get(_named_as(group[0]))
        if other is not None and not any(run.is_full for run in group):
            lenient.refuse(
                "checkpoint",
                f"{group[0].path}: a masked run of {_called(group[0])}, but the full model is another: "
                f"{_called(other)} in {other.path}"
                + "; --mask-of MODEL:PATTERN=DROP says that they are masks of one MODEL"
                * group[0].told,
            )


def _named_as(run: Run) -> tuple[str, str]:
    return run.framework, "told" if run.told else run.model


def _called(run: Run) -> str:
    given = (f"{k}={v}" for k, v in sorted(run.arguments.items()) if k not in ("drop", "keep"))
    return " ".join([run.model, *map(model_args.redacted, given)])


class _Builder:
    """Builds the table of one model; holds what its steps share."""

    def __init__(
        self,
        runs: Sequence[Run],
        taxonomy: Taxonomy,
        encoders: Sequence[str],
        known_encoders: KnownEncoders,
        lenient: Leniency,
        notes: Sequence[str],
    ):
        self.runs, self.taxonomy, self.lenient = runs, taxonomy, lenient
        self.framework = runs[0].framework
        self.notes = list(notes)
        self.holes: list[str] = []
        self.answers: dict[str, dict[Mask, Samples]] = {}  # by task
        self.unchecked: dict[tuple[str, str], list[str]] = {}  # benchmark and reason -> masks
        self.guessed = False
        self.encoders = self._encoders(encoders, known_encoders)
        self.run_of = self._by_mask_and_task()
        ran = {masks.dropped(self.encoders, *run.mask) for run in runs}
        place = {name: number for number, name in enumerate(self.encoders)}
        self.rows = tuple(sorted(ran, key=lambda mask: (len(mask), [place[name] for name in mask])))

    def table(self) -> ScoreTable:
        """The table, with the reason of every hole among its notes."""
        compare.check_runs(self.runs, self.lenient)
        chosen = self._sources()
        benchmarks, sources = tuple(b for b, _ in chosen), [parts for _, parts in chosen]
        points = np.full((len(self.rows), len(benchmarks)), np.nan)
        samples: dict[str, SampleScores] = {}
        documents: list[int | None] = []
        for column, (benchmark, parts) in enumerate(chosen):
            for part in parts:
                mine = [run for run in self.runs if part.task in run.tasks]
                compare.check_settings(mine, part.task, self.lenient)
            scored = {mask: found for mask in self.rows if (found := self._score(mask, benchmark, parts))}
            for mask, found in scored.items():
                points[self.rows.index(mask), column] = found.points
            logged = {mask: found.samples for mask, found in scored.items() if found.samples}
            for number, part in enumerate(parts):
                self.answers[part.task] = {mask: of_parts[number] for mask, of_parts in logged.items()}
                compare.check_documents(list(self.answers[part.task].values()), part.task, self.lenient)
            if logged and not any(s.reason for found in logged.values() for s in found):
                samples[benchmark.name] = self._paired(logged)
            documents.append(self._documents(parts, samples.get(benchmark.name)))
            self._tell_unchecked(benchmark, [masks.label(mask, self.encoders) for mask in scored])
        if self.holes and np.isnan(points).all():
            raise DataError(self.holes[0])
        self._check_replies(points)
        compare.check_files(self.runs, self.lenient)
        self._explain(benchmarks, points)
        self.notes += self.lenient.take()
        tasks = tuple("+".join(part.task for part in parts) for parts in sources)
        first = next((run for run in self.runs if run.is_full), self.runs[0])
        masked = next((run for run in self.runs if not run.is_full), first)
        checkpoint = first.group or first.checkpoint
        return ScoreTable(
            first.model, checkpoint, self.framework, self.encoders, self.rows, self.taxonomy, benchmarks, tasks, points,
            tuple(documents), samples, tuple(dict.fromkeys(self.notes)),
            self._signature(first, masked, checkpoint, tasks, documents), self.guessed,
        )  # fmt: skip

    def _encoders(self, given: Sequence[str], known: KnownEncoders) -> tuple[str, ...]:
        """The model's encoders: as recorded, known or given; else the names in the masks, which is noted."""
        first = self.runs[0]
        telling = [run for run in self.runs if run.encoders]
        for run in telling:
            self._check_names(run.encoders, run)
            if run.encoders != telling[0].encoders:
                raise DataError(
                    f"{telling[0].path} and {run.path}: runs of one checkpoint record different encoders: "
                    f"{', '.join(telling[0].encoders)} and {', '.join(run.encoders)}"
                )
        names = telling[0].encoders if telling else tuple(known(first.model, first.checkpoint))
        if given:
            return self._as_given(given, names, telling)
        return tuple(names) or self._guess()

    def _as_given(self, given: Sequence[str], names: Sequence[str], telling: Sequence[Run]) -> tuple[str, ...]:
        twice = next((name for name in given if list(given).count(name) > 1), None)
        if twice:
            raise SetupError(f"--encoders names {twice} twice: {','.join(given)}")
        if names and (set(given) != set(names) or (telling and tuple(given) != tuple(names))):
            source = f"the record of {telling[0].path}" if telling else f"what is known of {self.runs[0].checkpoint}"
            raise SetupError(f"--encoders {','.join(given)} contradicts {source}: {','.join(names)}")
        return tuple(masks.check_name(name) for name in given)

    def _check_names(self, names: Iterable[str], run: Run) -> None:
        try:
            checked = [masks.check_name(str(name)) for name in names]
        except SetupError as error:
            raise DataError(f"{run.path}: {error}") from None
        twice = next((name for name in checked if checked.count(name) > 1), None)
        if twice:
            raise DataError(f"{run.path}: the encoder {twice} is recorded twice")

    def _guess(self) -> tuple[str, ...]:
        """The encoders that masks name, where nothing else tells them."""
        first = self.runs[0]
        unclear = [run for run in self.runs if run.mask[1] or run.mask[0].lower() == "all"]
        typed: dict[str, str] = {}  # name -> what it was called first
        for run in self.runs:
            for text in (part.strip().lower() for part in run.mask[0].split("+")):
                if text in ("", "none", "all"):
                    continue
                self._check_names([text], run)
                name = masks.ALIASES.get(text, text)
                if typed.setdefault(name, text) != text:
                    raise DataError(
                        f"{run.path}: two runs of one mask: {typed[name]} and {text} both call the encoder {name}; "
                        "where they are two encoders, say so with --encoders"
                    )
        if unclear or not typed:
            raise DataError(
                f"{(unclear or self.runs)[0].path}: which encoders {first.checkpoint} has is not known here; "
                "say so with --encoders clip,convnext,... in the checkpoint's order"
            )
        self.guessed = True
        self.notes.append(
            f"encoders inferred from the masks that were run (--encoders says otherwise): {', '.join(typed)}; "
            "there may be others, so IG is undefined"
        )
        return tuple(typed)

    def _label(self, mask: Mask) -> str:
        return masks.label(mask, self.encoders, whole=not self.guessed)

    def _by_mask_and_task(self) -> dict[tuple[Mask, str], Run]:
        found: dict[tuple[Mask, str], Run] = {}
        for run in sorted(self.runs, key=lambda run: run.path.name):  # names begin with the time: the newest wins
            mask = masks.dropped(self.encoders, *run.mask)
            for task in run.tasks:
                if (mask, task) in found:
                    label, other = self._label(mask), found[mask, task]
                    self.lenient.refuse(
                        "duplicate-runs", f"two runs of drop={label} on task {task}: {other.path} and {run.path}"
                    )
                found[mask, task] = run
        return found

    def _sources(self) -> list[tuple[Benchmark, tuple[Part, ...]]]:
        """The benchmarks that were run, each with the tasks that report it."""
        ran = {task: task for run in self.runs for task in run.tasks}
        used: set[str] = set()
        chosen = []
        for benchmark in self.taxonomy.benchmarks:
            alternatives = benchmark.sources.get(self.framework, ())
            if self.framework == read_csv.FRAMEWORK:
                alternatives = ((Part(benchmark.name, "score", scale=1),),)
            found = [parts for parts in alternatives if all(part.task in ran for part in parts)]
            used |= {part.task for parts in alternatives for part in parts if part.task in ran}
            if not found:
                for parts in alternatives:
                    absent = [part.task for part in parts if part.task not in ran]
                    if len(absent) < len(parts):
                        self.notes.append(f"{benchmark.name} has no score: {', '.join(absent)} was not run")
                continue
            chosen.append((benchmark, found[0]))
            if found[1:]:
                others = ", ".join("+".join(part.task for part in parts) for parts in found[1:])
                mine = "+".join(part.task for part in found[0])
                self.notes.append(f"{benchmark.name} is {mine}; also run, left out: {others}")
        failed = {task: why for run in self.runs for task, why in run.failures.items() if task not in ran}
        failures = [f"no results on {task}; {why}" for task, why in sorted(failed.items())]
        outside = [task for task in ran if task not in used]
        if not chosen:
            other = f"none of the tasks is in the taxonomy {self.taxonomy.name}: {', '.join(outside)}"
            raise DataError(f"{self.runs[0].path}: {'; '.join(failures) or other}")
        self.notes += failures
        if outside:
            self.notes.append(f"not in the taxonomy {self.taxonomy.name}, left out: {', '.join(outside)}")
        return chosen

    def _score(self, mask: Mask, benchmark: Benchmark, parts: Sequence[Part]) -> Scored | None:
        label = self._label(mask)
        absent = [part.task for part in parts if (mask, part.task) not in self.run_of]
        if absent:
            tried = [run for run in self.runs if masks.dropped(self.encoders, *run.mask) == mask]
            why = {why for run in tried for task in absent if (why := run.failures.get(task))}
            said = "".join(f"; {text}" for text in sorted(why))
            self.notes.append(f"no run of drop={label} on {benchmark.name} ({', '.join(absent)}){said}")
            return None
        found = scoring.score(label, benchmark, parts, [self.run_of[mask, part.task] for part in parts], self.lenient)
        self.notes += found.notes
        if found.hole:
            self.holes.append(found.hole)
        if found.unchecked and self.framework != read_csv.FRAMEWORK:
            self.unchecked.setdefault((benchmark.name, found.unchecked), []).append(label)
        return found

    def _tell_unchecked(self, benchmark: Benchmark, labels: Sequence[str]) -> None:
        """Say which scores are the framework's own numbers, and of which masks where samples of others are there."""
        failed = "; answers that failed count as wrong in it" if self.framework == read_vlmevalkit.FRAMEWORK else ""
        for (name, reason), found in self.unchecked.items():
            if name != benchmark.name:
                continue
            others = [f"drop={label}" for label in labels if label not in found]
            whose = f" under {', '.join(f'drop={label}' for label in found)}" if others else ""
            there = f" (samples of {', '.join(others)} are there)" if others else ""
            self.notes.append(f"{name} is the framework's number{whose}, unchecked: {reason}{there}{failed}")

    def _paired(self, logged: Mapping[Mask, Sequence[Samples]]) -> SampleScores:
        """Scores of the documents that all logged masks share (all of them, unless that was excused)."""
        first, *others = logged.values()
        shared = [s.documents for s in first]
        for other in others:
            # In the order of the samples, which is not that of their names as texts: scores stand in it.
            shared = [a[np.isin(a, s.documents)] for a, s in zip(shared, other, strict=True)]
        scores = np.full((len(self.rows), sum(map(len, shared))), np.nan)
        for mask, found in logged.items():
            picked = [
                np.where(s.missing, np.nan, s.scores)[np.isin(s.documents, a)]
                for a, s in zip(shared, found, strict=True)
            ]
            scores[self.rows.index(mask)] = np.concatenate(picked)
        places = [np.isin(s.documents, a) for a, s in zip(shared, first, strict=True)]
        prefix = [f"{number}:" if len(first) > 1 else "" for number in range(len(first))]
        names = [np.char.add(p, a.astype(np.str_)) for p, a in zip(prefix, shared, strict=True)]
        return SampleScores(
            np.concatenate(names),
            scores,
            np.concatenate([s.clusters[at] for s, at in zip(first, places, strict=True)]),
            np.concatenate([s.strata[at] for s, at in zip(first, places, strict=True)]),
        )

    def _check_replies(self, points: NDArray[np.float64]) -> None:
        """Masks that may not have been applied, and models that fell silent.

        Raises:
            DataError: under a mask, not one of many answers is another than the full model's.
        """
        for task, of_mask in self.answers.items():
            for group in replies.alike({mask: samples.replies for mask, samples in of_mask.items()}):
                said = ", ".join(f"drop={masks.label(mask, self.encoders)}" for mask in group)
                self.notes.append(f"{task}: the same {len(of_mask[group[0]].replies)} replies under {said}")
        for row, mask in enumerate(self.rows):
            label = masks.label(mask, self.encoders)
            mine = {task: of_mask[mask] for task, of_mask in self.answers.items() if mask in of_mask}
            if mask and () in self.rows:
                self._check_applied(label, mine, points[row], points[self.rows.index(())])
            empty = {task: s for task, s in mine.items() if len(s.empty) and s.empty.mean() >= 0.5}
            if empty:
                counts = sum(int(s.empty.sum()) for s in empty.values()), sum(len(s.empty) for s in empty.values())
                where = f" on {', '.join(empty)}" if len(mine) == 1 or len(empty) < len(mine) else ""
                self.notes.append(f"drop={label}: {counts[0]} of {counts[1]} replies{where} are empty")
            for task, s in mine.items():
                if task not in empty and replies.uniform(s.replies) and len(mask) < len(self.encoders):
                    self.notes.append(f"drop={label}: all {len(s.replies)} replies on {task} are the same text")

    def _check_applied(
        self, label: str, mine: Mapping[str, Samples], points: NDArray[np.float64], full: NDArray[np.float64]
    ) -> None:
        compared = [
            replies.changed(self.answers[task][()].replies, s.replies)
            for task, s in mine.items()
            if () in self.answers[task]
        ]
        other, known = (sum(counts) for counts in zip(*compared, strict=True)) if compared else (0, 0)
        if known >= replies.FEW and not other:
            self.lenient.refuse(
                "same-answers",
                f"dropping {label} changed none of {known} answers of the full model, so the mask was hardly applied: "
                f"{next(iter(mine.values())).path}",
            )
        if not known and np.isfinite(full).any() and np.array_equal(points, full, equal_nan=True):
            self.notes.append(
                f"drop={label} has the full model's scores on all benchmarks; no samples tell whether it was applied"
            )

    def _documents(self, parts: Sequence[Part], samples: SampleScores | None) -> int | None:
        if samples is not None:
            return len(samples.documents)
        counts = [next(run.tasks[part.task].documents for run in self.runs if part.task in run.tasks) for part in parts]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def _explain(self, benchmarks: Sequence[Benchmark], points: NDArray[np.float64]) -> None:
        """Notes on what is undefined."""
        groups = self.taxonomy.groups(benchmarks)
        empty = [c for c, group in zip(self.taxonomy.categories, groups, strict=True) if not group]
        if empty:
            self.notes.append(
                f"no benchmark of these categories was run, so they and overall are undefined: {', '.join(empty)}"
            )
        partly = [b.name for b in self.taxonomy.benchmarks if b not in benchmarks and b.category not in empty]
        kinds = {_is_demo(b) for b in benchmarks}
        partly = [b.name for b in self.taxonomy.benchmarks if b.name in partly and _is_demo(b) in kinds]
        if partly:
            self.notes.append(f"not run, so their categories are the mean of the others: {', '.join(partly)}")
        if () not in self.rows:
            self.notes.append("the full model (drop=none) was not run, so CUR and IG are undefined")
        else:
            full = points[self.rows.index(())]
            zero = [b.name for b, value in zip(benchmarks, full, strict=True) if value < metrics.NOTHING]
            if zero:
                self.notes.append(f"the full model scores 0 on: {', '.join(zero)}")
        if len(self.encoders) == 1 and not self.guessed:
            self.notes.append("with one encoder there is no gap between encoders, so IG is undefined")
        absent = [name for name in self.encoders if (name,) not in self.rows]
        if absent:
            self.notes.append(
                f"no run with only this encoder dropped, so its CUR and IG are undefined: {', '.join(absent)}"
            )
        if self.framework == read_csv.FRAMEWORK:
            self.notes.append("point estimates from a CSV file: nothing could be recomputed or paired")

    def _signature(
        self, first: Run, masked: Run, checkpoint: str, tasks: Sequence[str], documents: Sequence[int | None]
    ) -> str:
        """One line that says how to get the table again; what is not known of runs is left out of it."""
        from redundancy_eval import __version__

        said = {json.loads(value) for run in self.runs if (value := run.settings.get("limit", {}).get("limit"))}
        given = masked.arguments
        words = {"ablation": "zero", "site": "encoder", "dtype": "auto"}
        if self.framework == read_csv.FRAMEWORK:
            words = {}
        elif masked.told:
            words = dict.fromkeys(words, "told")
        sample = f"@{masked.calibration.partition(' ')[0]}" if masked.calibration else ""
        parts = {
            "model": first.model,
            "checkpoint": checkpoint,
            "encoders": "+".join(self.encoders) + "+?" * self.guessed,
            "masks": f"{len(self.rows)}/{'?' if self.guessed else 2 ** len(self.encoders)}",
            "ablation": given.get("ablation", words.get("ablation", "")),
            "calibration": given.get("calibration", "") + sample,
            "site": given.get("site", words.get("site", "")),
            "dtype": self._resolved("dtype") or given.get("dtype", words.get("dtype", "")),
            "device": "+".join(filter(None, (self._resolved("device"), self._resolved("device_name")))),
            "attention": self._resolved("attention"),
            "batch": self._resolved("batch_size"),
            "processes": self._resolved("processes"),
            "taxonomy": self.taxonomy.label,
            "tasks": "+".join(tasks),
            "documents": "unknown" if None in documents else str(sum(filter(None, documents))),
            "limit": "+".join(sorted(map(str, said))),
            "judge": "+".join(sorted(self._judges())),
            **{name: self._version(name) for name in compare.VERSIONS if name not in (self.framework, OWN)},
            self.framework: self._version(self.framework) or _unversioned(self.framework),
            OWN: __version__,
        }
        return "|".join(f"{key}:{shown.text(value, also='|`')}" for key, value in parts.items() if value)

    def _resolved(self, name: str) -> str:
        return "+".join(sorted({run.resolved[name] for run in self.runs if name in run.resolved}))

    def _version(self, name: str) -> str:
        return "+".join(sorted({run.versions[name] for run in self.runs if name in run.versions}))

    def _judges(self) -> set[str]:
        settings = (result.settings.get("judge", {}) for run in self.runs for result in run.tasks.values())
        return {str(judge) for fields in settings if (judge := fields.get("judge"))}


def _unversioned(framework: str) -> str:
    return "scores" if framework == read_csv.FRAMEWORK else "unknown"


def _is_demo(benchmark: Benchmark) -> bool:
    return benchmark.name.startswith("demo ")
