"""A sweep in rounds: which documents and masks each look asks, when it stops, where it goes on, what it refuses."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval import masks, records
from redundancy_eval.cli import main
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.sweeps import folders, rounds
from redundancy_eval.model_wrappers.sweeps import run as sweep_run
from redundancy_eval.model_wrappers.sweeps.rounds import Rounds
from redundancy_eval.model_wrappers.sweeps.settings import Settings
from redundancy_eval.sample import Drawn
from tests.helpers.runs import DEMO_TASKS, write_run

ENCODERS = ("clip", "convnext", "pix2struct", "eva02")
NEEDED = ["none", *ENCODERS]
COUNTS = {task: 400 if place else 50 for place, task in enumerate(DEMO_TASKS)}  # the first is small
COMMAND = ["sweep", "--model", "eagle_masked", "--model_args", "pretrained=demo,dtype=float32"]


class Asked:
    """A sweep whose answers are made up: of each mask the documents of the look, and where it is killed."""

    def __init__(self, out):
        self.out, self.calls, self.killed = out, [], None
        rng = np.random.default_rng(3)
        self.right = {task: rng.random(count) < 0.8 for task, count in COUNTS.items()}
        self.lost = {(label, task): rng.random(n) < 0.06 for label in (*ENCODERS, "all") for task, n in COUNTS.items()}

    def documents(self):
        return COUNTS

    def folder(self, label):
        return self.out / f"drop-{label}"

    def run(self, asked, framework, quiet=False, brief=False):
        labels = masks_of(asked.masks)
        self.calls.append((asked.until.look, labels, asked.sample.count, brief))
        for label in labels:
            if self.killed == (asked.until.look, label):
                raise KeyboardInterrupt
            self.answer(label, asked)

    def answer(self, label, asked):
        first = {task: range(min(count, asked.sample.count)) for task, count in COUNTS.items()}
        right = {
            task: [int(self.right[task][i] and not self.lost.get((label, task), [0] * 999)[i]) for i in some]
            for task, some in first.items()
        }
        write_run(self.out, label, right)
        drawn = {
            task: Drawn(tuple(some), COUNTS[task], (len(some), COUNTS[task]), {"": (len(some), COUNTS[task])})
            for task, some in first.items()
        }
        record = {"model": "eagle_masked", "mask": label, "sweep": True, "sample": asked.sample.as_json(drawn)}
        records.write(record, self.folder(label))
        told = {"schema": 1, "files": [], "decides": {"until": asked.until.as_json()}}
        (self.folder(label) / records.MANIFEST).write_text(json.dumps(told))


def masks_of(text):
    if text == "leave-one-out":
        return [masks.label(mask, ENCODERS) for mask in masks.leave_one_out(ENCODERS)]
    return text.split(";")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    made = Asked(tmp_path / "out")
    monkeypatch.setattr(sweep_run, "start", lambda asked, framework: made)
    monkeypatch.setattr(sweep_run, "surroundings", lambda asked, framework: {})
    monkeypatch.setattr(sweep_run, "run", made.run)
    return made


def go(asked, margin, looks=5, masks="leave-one-out"):
    settings = Settings("eagle_masked", "pretrained=demo", masks, str(asked.out), "auto", None, (), ("sweep",))
    rounds.run(settings, Rounds(margin, looks), SimpleNamespace(name="lmms-eval"))


def test_it_stops_where_every_cur_is_known(asked, capsys):
    go(asked, 12)
    *parts, (look, whole, count, brief) = asked.calls
    assert 1 < look < 5 and (whole, brief) == (masks_of("leave-one-out"), False)  # the rest of the masks at the end
    assert parts == [(k, NEEDED, 25 * 2 ** (k - 1), True) for k in range(1, look + 1)] and count == parts[-1][2]
    *lines, said = capsys.readouterr().err.splitlines()
    total, mine = sum(COUNTS.values()), sum(min(count, each) for each in COUNTS.values())
    assert said == (
        f"asked {mine:,} of {total:,} documents: {100 * (1 - mine / total):.0f} % saved; every CUR is known to +-12 %"
    )
    assert [line.split(":")[0] for line in lines] == [f"look {k} of 5" for k in range(1, look + 1)]
    assert all("; next: " in line for line in lines[:-1]) and "next" not in lines[-1]
    assert f"look 1 of 5: 125 of {total:,} documents asked; widest CUR interval: " in lines[0]
    assert {records.until(asked.folder(label)).look for label in whole} == {look}


def test_where_nothing_is_known_all_is_asked(asked, capsys):
    go(asked, 0.1, looks=3)
    assert [call[0] for call in asked.calls] == [1, 2, 3, 3] and asked.calls[-1][2] == 400
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("asked 1,650 of 1,650 documents: 0 % saved; not every CUR is known to +-0.1 %: widest CUR")


@pytest.mark.parametrize("where", ["none", "convnext"])
def test_killed_it_goes_on_at_its_look(asked, where):
    asked.killed = (3, where)
    with pytest.raises(KeyboardInterrupt):
        go(asked, 0.1)
    asked.killed, asked.calls = None, []
    go(asked, 0.1)
    assert [call[0] for call in asked.calls] == ([2] if where == "none" else []) + [3, 4, 5, 5]


def test_another_margin_begins_anew(asked):
    go(asked, 50)
    asked.calls = []
    go(asked, 12)
    assert asked.calls[0][0] == 1


def test_finished_it_returns_at_once(asked, monkeypatch, capsys):
    monkeypatch.setattr(folders, "done", lambda *_: True)
    go(asked, 12)
    assert not asked.calls and capsys.readouterr().err == f"finished: 6 masks in {asked.out}\n"


def test_no_benchmark_to_watch(asked, monkeypatch):
    monkeypatch.setattr(Asked, "documents", lambda self: {"pope": 9000})
    with pytest.raises(SetupError, match="no benchmark of the taxonomy five is asked in pope"):
        go(asked, 2)
    assert not asked.calls


def test_without_a_category_overall_is_not_watched(asked, monkeypatch, capsys):
    monkeypatch.delitem(COUNTS, DEMO_TASKS[-1])
    go(asked, 50)
    assert capsys.readouterr().err.startswith("overall is not watched: nothing of Vision-Centric is asked\n")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--until", "0"], "--until is in percent of the full score, such as 2; not 0"),
        (["--until", "-2"], "--until is in percent of the full score, such as 2; not -2"),
        (["--until", "nan"], "--until is in percent of the full score, such as 2; not nan"),
        (["--until", "2", "--looks", "1"], "--looks is a whole number from 2 to 20; not 1"),
        (["--until", "2", "--looks", "0"], "--looks is a whole number from 2 to 20; not 0"),
        (["--looks", "3"], "--looks needs --until MARGIN"),
        (["--until", "2", "--limit", "9"], "--until chooses the documents: leave --sample, --limit and --offset out"),
        (["--until", "2", "--limit=9"], "--until chooses the documents: leave --sample, --limit and --offset out"),
        (["--until", "2", "--sample", "9"], "--until chooses the documents: leave --sample, --limit and --offset out"),
        (["--until", "2", "--masks", "none;clip"], "--until needs the masks that CUR needs, the full model and each"),
        (["--until", "2", "--masks", "keep-one"], "--until needs the masks that CUR needs, the full model and each"),
    ],
)
def test_mistakes_are_one_line(more, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*COMMAND, "--tasks", "redundancy_demo", "-o", "out", *more]) == 2
    printed = capsys.readouterr().err
    assert said in printed and printed.count("\n") == 1
    assert not (tmp_path / "out").exists()
