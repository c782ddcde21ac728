"""Before VLMEvalKit starts: files that a kill cut off, data files that changed since they were answered."""

import os
import pickle
import zipfile

import pytest

from redundancy_eval import files
from redundancy_eval.errors import SetupError

folder = pytest.importorskip("redundancy_eval.model_wrappers.hosts.vlmevalkit.folder")

MODEL = "eagle_masked_drop-clip_0123abcd"
NAMES = {"MME", "MMBench_DEV_EN", "MMBench_DEV_EN_V11"}


def whole(suffix):
    """A file's content as VLMEvalKit writes it; each is longer than half of it is whole."""
    if suffix == ".pkl":
        return pickle.dumps({n: f"answer {n}" for n in range(50)})
    return b'{"a": [1, 2, 3, 4]}' if suffix == ".json" else b'"index","hit"\n"1","0"\n"2","1"\n'


def put(path, cut=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".xlsx":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("xl/worksheets/sheet1.xml", "<sheetData/>" * 20)
    else:
        path.write_bytes(whole(path.suffix))
    if cut:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def left(out):
    return {path.name.removeprefix(f"{MODEL}_") for path in out.iterdir()}


@pytest.mark.parametrize("suffix", [".pkl", ".xlsx", ".tsv", ".csv", ".json"])
def test_what_was_cut_off_is_told(tmp_path, suffix):
    assert not folder.is_cut_off(put(tmp_path / f"a{suffix}"))
    assert folder.is_cut_off(put(tmp_path / f"b{suffix}", cut=True))
    (tmp_path / f"c{suffix}").touch()
    assert folder.is_cut_off(tmp_path / f"c{suffix}")


@pytest.mark.parametrize(
    ("cut", "removed"),
    [
        ("01_MME.pkl", {"01_MME.pkl", "MME_auxmatch.xlsx", "MME_score.csv"}),
        (f"{MODEL}_MME.xlsx", {"MME.xlsx", "MME_auxmatch.xlsx", "MME_score.csv"}),
        (f"{MODEL}_MME_PREV.pkl", {"MME_PREV.pkl", "MME_auxmatch.xlsx", "MME_score.csv"}),
        (f"{MODEL}_MME_auxmatch.xlsx", {"MME_auxmatch.xlsx"}),
        (f"{MODEL}_MMBench_DEV_EN_exact_matching_result.pkl", {"MMBench_DEV_EN_exact_matching_result.pkl"}),
        (f"{MODEL}_MMBench_DEV_EN_V11.xlsx", set()),
        ("status.json", {"status.json"}),
    ],
)
def test_a_data_set_is_begun_anew_where_a_kill_cut_a_file_off(tmp_path, capsys, cut, removed):
    out = tmp_path / MODEL
    names = ("MME.xlsx", "MME_PREV.pkl", "MME_auxmatch.xlsx", "MME_score.csv", "MMBench_DEV_EN.xlsx",
             "MMBench_DEV_EN_exact_matching_result.pkl", "MMBench_DEV_EN_V11.xlsx")  # fmt: skip
    for name in ("status.json", "01_MME.pkl", "notes.txt", *(f"{MODEL}_{name}" for name in names)):
        put(out / name, cut=name == cut)
    before = left(out)
    folder.clear_cut_off(out, ["MME", "MMBench_DEV_EN"], NAMES)
    assert before - left(out) == removed
    told = capsys.readouterr().err
    assert told.count("is made anew") == len(removed) and "Traceback" not in told
    folder.clear_cut_off(out, ["MME", "MMBench_DEV_EN"], NAMES)
    assert before - left(out) == removed


@pytest.fixture
def data(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "Toy.tsv").write_text("index\tquestion\n1\tWhich?\n")
    monkeypatch.setenv("LMUData", str(tmp_path / "data"))
    return tmp_path / "data"


def test_answers_to_another_data_file_are_refused(tmp_path, data):
    before = folder.data_digests(["Toy", "NotFetchedYet"])
    assert list(before) == ["Toy"]
    out = tmp_path / MODEL
    (data / "Toy.tsv").write_text("index\tquestion\n1\tWhat?\n")
    folder.check_data(out, before, folder.data_digests(["Toy"]))  # nothing was answered
    put(out / f"{MODEL}_Toy.tsv")
    with pytest.raises(SetupError, match=rf"Toy\.tsv changed since .*{MODEL} was answered; delete that folder"):
        folder.check_data(out, before, folder.data_digests(["Toy"]))
    (data / "Toy.tsv").write_text("index\tquestion\n1\tWhich?\n")
    folder.check_data(out, before, folder.data_digests(["Toy"]))


def test_pictures_of_another_data_file_are_refused(tmp_path, data, capsys):
    pictures = data / "images" / "Toy"
    fresh = folder.without_pictures(["Toy"])
    assert fresh == ["Toy"]
    put(pictures / "1.tsv")
    digests = folder.data_digests(["Toy"])
    folder.note_pictures(["Toy"], digests, fresh)
    folder.check_data(tmp_path / MODEL, {}, digests)
    (data / "Toy.tsv").write_text("index\tquestion\n1\tWhat?\n")
    with pytest.raises(SetupError, match=r"Toy\.tsv changed since its pictures were written to .*images/Toy; delete"):
        folder.check_data(tmp_path / MODEL, {}, folder.data_digests(["Toy"]))
    assert folder.without_pictures(["Toy"]) == ["Toy"] and not capsys.readouterr().err


def test_pictures_that_someone_else_wrote_are_only_spoken_of(data, capsys):
    pictures = data / "images" / "Toy"
    put(pictures / "1.tsv")
    assert folder.without_pictures(["Toy"]) == []
    folder.note_pictures(["Toy"], folder.data_digests(["Toy"]), [])
    assert not (pictures / folder.PICTURES).exists()
    os.utime(pictures, (1, 1))
    folder.without_pictures(["Toy"])
    assert f"the pictures in {pictures} are older than Toy.tsv" in capsys.readouterr().err
    assert files.read_json(put(pictures / "x.json"))
