"""The environment told apart from what it should be: `doctor`, import errors in a line, copies that are mixed."""

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import redundancy_eval
from redundancy_eval import cli, environment, place
from redundancy_eval.errors import SetupError

ROOT = Path(redundancy_eval.__file__).resolve().parents[1]


def command(*arguments, cwd, **env):
    return subprocess.run(
        [sys.executable, "-m", "redundancy_eval", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=600, env={**os.environ, "HF_HUB_OFFLINE": "1", **env},
    )  # fmt: skip


def one_line(done, code=2):
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("redundancy-eval: error:")]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr[-2000:]
    return lines[0]


# --- what is asked for, and what is there -------------------------------------------------------------------------


def test_extras_ask_for_what_pyproject_says():
    names = {extra: {r.name.lower() for r in environment.wanted(extra)} for extra in ("", *environment.EXTRAS)}
    assert {"numpy", "scipy", "packaging"} <= names[""] and "torch" not in names[""]
    assert {"torch", "transformers", "timm"} <= names["models"]
    assert {"lmms_eval", "filelock", "torch"} <= names["lmms-eval"]  # with the models, which that extra takes in
    assert "ms-vlmeval" in names["vlmevalkit"] and "lmms_eval" not in names["vlmevalkit"]


def test_the_tested_set_is_the_lock_and_fits_the_ranges():
    known = environment.tested()
    assert known, "these tests run on a Python that tested.json does not have"
    for extra in ("", *environment.EXTRAS):
        for package in environment.packages(extra):
            assert package.tested == known[package.name]
            assert package.wanted.specifier.contains(package.tested), package


@pytest.mark.parametrize(
    "wanted, found, fits, command",
    [
        ("filelock<4", "4.0.1", False, "pip install 'filelock<4'"),
        ("filelock<4", "3.32.7", True, None),
        ("torch<3,>=2.13", "2.14.1+cu130", True, None),
        ("torch>=2.13", "2.13.0rc1", False, "pip install 'torch>=2.13'"),
        ("torch>=2.13", None, False, "pip install 'redundancy-eval[models]'"),
    ],
)
def test_a_package_fits_or_the_mending_command_is_told(wanted, found, fits, command):
    requirement = Requirement(wanted)
    package = environment.Package(requirement.name, requirement, found, "1.0")
    assert package.fits == fits
    if not fits:
        assert environment.mend([package], "models") == command
        assert (found or "missing") in str(package) and "tested: 1.0" in str(package)


def test_an_import_error_names_package_versions_and_command(monkeypatch):
    there = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "4.0.1" if name == "filelock" else there(name))
    with pytest.raises(SetupError) as caught, environment.needed("run", "lmms-eval"):
        import redundancy_eval.not_there  # noqa: F401
    text = str(caught.value)
    assert "\n" not in text and "run needs the extra lmms-eval (No module named 'redundancy_eval.not_there')" in text
    if environment.version("lmms-eval"):
        assert "filelock 4.0.1 is installed, <4 is needed" in text and text.endswith("pip install 'filelock<4'")


def test_an_extra_that_is_not_there_is_asked_for_as_a_whole(monkeypatch):
    def none(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", none)
    assert environment.why("lmms-eval").endswith("pip install 'redundancy-eval[lmms-eval]'")


# --- doctor --------------------------------------------------------------------------------------------------------


def test_doctor_fails_on_a_version_out_of_range_and_on_nothing_else(monkeypatch, capsys, tmp_path):
    from redundancy_eval.commands import doctor

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("_torch", "_lmms_eval", "_vlmevalkit"):  # tried below, in the real environment
        monkeypatch.setattr(doctor, name, lambda: iter(()))
    assert cli.main(["doctor"]) == 0
    assert "report, verify, models, tasks: ready" in capsys.readouterr().out
    there = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.9" if name == "numpy" else there(name))
    assert cli.main(["doctor", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    wrong = [line for line in told["lines"] if line["status"] == "wrong"]
    assert [line["topic"] for line in wrong] == ["version"]
    assert "numpy 0.9 is installed" in wrong[0]["text"] and "pip install 'numpy>=1.26'" in wrong[0]["text"]


def test_a_check_that_fails_is_a_line(monkeypatch, capsys):
    from redundancy_eval.commands import doctor

    def broken():
        yield doctor.Line("caches", doctor.OK, "first")
        raise RuntimeError("disk on fire")

    broken.__name__ = "_caches"
    for name in ("_torch", "_lmms_eval", "_vlmevalkit", "_hub", "_data"):
        monkeypatch.setattr(doctor, name, lambda: iter(()))
    monkeypatch.setattr(doctor, "_caches", broken)
    assert cli.main(["doctor"]) == 2
    assert "could not be looked at: RuntimeError: disk on fire" in capsys.readouterr().out


@pytest.mark.framework
@pytest.mark.models
def test_doctor_in_the_real_environment(tmp_path):
    pytest.importorskip("lmms_eval")
    pytest.importorskip("torch")
    done = command("doctor", "--json", cwd=tmp_path)
    lines = {line["topic"]: line for line in json.loads(done.stdout)["lines"]}
    assert done.returncode == 0, done.stdout
    for framework in ("lmms-eval", "VLMEvalKit"):
        assert lines[framework]["status"] == "ok" and "eagle_masked" in lines[framework]["text"]
    assert lines["auto"]["text"].startswith("dtype=auto is ") and lines["torch"]["status"] == "ok"


@pytest.fixture(scope="module")
def newer_filelock(tmp_path_factory):
    """A folder for PYTHONPATH with a filelock that, like release 4, has no module `_api`."""
    filelock = pytest.importorskip("filelock")
    folder = tmp_path_factory.mktemp("newer")
    shutil.copytree(Path(filelock.__file__).parent, folder / "filelock", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "filelock" / "_api.py").rename(folder / "filelock" / "_moved.py")
    for path in (folder / "filelock").rglob("*.py"):
        path.write_text(path.read_text(encoding="utf-8").replace("._api", "._moved"), encoding="utf-8")
    info = folder / "filelock-4.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: filelock\nVersion: 4.0.0\n")
    return folder


@pytest.mark.framework
@pytest.mark.models
def test_a_framework_that_breaks_on_a_newer_package_says_so_in_a_line(newer_filelock, tmp_path):
    pytest.importorskip("lmms_eval")
    lines = [
        ["demo", "--limit", "1", "-o", "out"],
        ["run", "--model", "eagle_masked", "--model_args", "pretrained=demo,drop=clip", "--tasks",
         "redundancy_demo_ocr", "--limit", "1", "--device", "cpu", "--output_path", "out"],
    ]  # fmt: skip
    code = (
        "import json, sys\nfrom redundancy_eval.cli import main\n"
        "print([main(line) for line in json.loads(sys.argv[1])])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(lines)], cwd=tmp_path, capture_output=True, text=True, timeout=600,
        env={**os.environ, "PYTHONPATH": str(newer_filelock)},
    )  # fmt: skip
    assert done.stdout.endswith("[2, 2]\n") and "Traceback" not in done.stderr, done.stderr[-2000:]
    said = [line for line in done.stderr.splitlines() if line.startswith("redundancy-eval: error:")]
    assert len(said) == 2
    for line in said:
        assert "filelock 4.0.0 is installed, <4 is needed" in line and "pip install 'filelock<4'" in line


@pytest.mark.parametrize("error", [ImportError("numpy.core"), ValueError("numpy.dtype size changed\nmay indicate")])
def test_a_base_package_that_cannot_be_imported_is_one_line(error, monkeypatch, capsys):
    class Broken:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "redundancy_eval.leniency":
                raise error

    monkeypatch.delitem(sys.modules, "redundancy_eval.leniency", raising=False)
    monkeypatch.delattr(redundancy_eval, "leniency", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
    assert cli.main(["report", "runs"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("redundancy-eval: error: redundancy-eval needs the base install (") and said.count("\n") == 1
    assert str(error).splitlines()[0] in said


def test_an_import_that_fails_on_the_way_is_one_line(monkeypatch, capsys, tmp_path):
    from redundancy_eval import reports

    monkeypatch.delattr(reports, "write", raising=False)  # where another test imported it
    monkeypatch.setitem(sys.modules, "redundancy_eval.reports.write", None)
    assert cli.main(["report", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("redundancy-eval: error: redundancy-eval report needs the base install (")
    assert said.count("\n") == 1


def test_the_cause_behind_a_lazy_import_is_told():
    with pytest.raises(SetupError) as caught, environment.needed("plan", "models"):
        try:
            raise RuntimeError("operator torchvision::nms does not exist\nand more")
        except RuntimeError as inner:
            raise ImportError("look above for its traceback") from inner
    assert "plan needs the extra models (RuntimeError: operator torchvision::nms does not exist): " in str(caught.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("os.kill(os.getpid(), 9)", "ended with exit code -9"),
        ("sys.exit('no driver')", "no driver"),
        ("import time; time.sleep(600)", "no answer within 2 s"),
    ],
)
def test_what_dies_or_hangs_is_told(code, said):
    from redundancy_eval.commands import doctor

    assert doctor._probe(f"told = 1\n{code}", 2) == (None, said)


def test_probes_see_the_path_of_the_command(tmp_path, monkeypatch):
    """Standing in another checkout, doctor looks at what the other commands find, not at what lies here."""
    from redundancy_eval.commands import doctor

    (tmp_path / "json.py").write_text("raise ImportError('of this folder')")
    monkeypatch.chdir(tmp_path)
    path = [place for place in sys.path if place]
    monkeypatch.setattr(sys, "path", path)
    assert doctor._probe("import redundancy_eval\ntold = [sys.path, redundancy_eval.__file__]") == (
        [path, redundancy_eval.__file__], "",
    )  # fmt: skip


def test_each_data_set_of_the_group_is_looked_for(tmp_path, monkeypatch):
    from redundancy_eval import tasks
    from redundancy_eval.commands import doctor

    wanted = doctor._sources()
    group = (Path(tasks.__file__).parent / "paper" / "redundancy_group_paper.yaml").read_text().split()
    assert {f"redundancy_{name}" for name in wanted} == {name for name in group if name.startswith("redundancy_")} - {
        "redundancy_paper"
    }
    images = "testdev_balanced_images"
    assert wanted["gqa"] == ("lmms-lab-encoder/GQA", ["testdev_balanced_instructions", images])
    assert wanted["mme"] == ("lmms-lab-encoder/MME", ["*"])


@pytest.mark.models
def test_cached_data_sets_are_found_where_datasets_puts_them(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    from redundancy_eval.commands import doctor

    def made(config):
        class Made(datasets.GeneratorBasedBuilder):
            def _info(self):
                return datasets.DatasetInfo(features=datasets.Features({"a": datasets.Value("int64")}))

            def _split_generators(self, dl_manager):
                return [datasets.SplitGenerator("testdev")]

            def _generate_examples(self):
                yield 0, {"a": 1}

        builder = Made(
            cache_dir=str(tmp_path),
            dataset_name="GQA",
            config_name=config,
            repo_id="lmms-lab-encoder/GQA",
            hash="0" * 8,
        )
        builder.download_and_prepare()

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    made("testdev_balanced_instructions")
    (line,) = doctor._data()
    assert line.text == "0 of 15 data sets of redundancy_paper are cached"  # without its images
    made("testdev_balanced_images")
    (line,) = doctor._data()
    assert line.status == "note" and line.text.startswith(
        "1 of 15 data sets of redundancy_paper are cached; not ai2d, "
    )
    assert "gqa" not in line.text


def test_another_release_of_a_framework_stands_for_it(monkeypatch):
    from redundancy_eval.commands import doctor

    there = {"vlmeval": "0.3", "torch": "2.14.1", "transformers": "5.24.0", "filelock": "3.32.7"}
    monkeypatch.setattr(environment, "version", there.get)
    assert doctor._installed("vlmevalkit") and not doctor._installed("lmms-eval")
    assert "ms-vlmeval" not in {package.name for package in doctor._unfit("vlmevalkit")}


def test_torch_alone_is_no_wish_for_the_models(monkeypatch):
    from redundancy_eval.commands import doctor

    monkeypatch.setattr(environment, "version", {"torch": "1.13", "numpy": "2.4.6"}.get)
    assert not doctor._installed("models")


def test_a_folder_that_is_not_there_or_not_for_us_is_told(tmp_path, monkeypatch):
    from redundancy_eval.commands import doctor

    monkeypatch.setattr(doctor, "_installed", lambda extra: True)
    monkeypatch.setenv("LMUData", str(tmp_path / "none"))
    told = {line.topic: line for line in doctor._caches()}
    assert told["LMUData"].status == doctor.WRONG and "mkdir -p" in told["LMUData"].text
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "file" / "data"))
    pytest.importorskip("huggingface_hub")
    told = {line.topic: line for line in doctor._caches()}
    assert told["data cache"].status == doctor.NOTE and "cannot be written to" in told["data cache"].text


# --- copies that are mixed -----------------------------------------------------------------------------------------


@pytest.fixture
def other_checkout(tmp_path):
    """Another checkout's core, from which commands are given in this environment."""
    shutil.copytree(ROOT / "redundancy_eval", tmp_path / "b" / "redundancy_eval")
    return tmp_path / "b"


@pytest.mark.slow
def test_two_checkouts_do_not_mix(other_checkout):
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("needs an editable checkout")
    for arguments in (["--help"], ["report", "."], ["models"], ["tasks"], ["run", "--model", "eagle_masked"]):
        said = one_line(command(*arguments, cwd=other_checkout))
        assert str(other_checkout.resolve()) in said and str(ROOT) in said
    code = (
        "import sys\nfrom redundancy_eval import cli\nfrom redundancy_eval.commands import doctor\n"
        "for name in ('_torch', '_lmms_eval', '_vlmevalkit', '_hub', '_data'):  # tried in the real environment\n"
        "    setattr(doctor, name, lambda: iter(()))\n"
        "sys.exit(cli.main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=other_checkout, capture_output=True, text=True)
    assert done.returncode == 2 and "two copies are mixed" in done.stdout and "Traceback" not in done.stderr
    for side in ("model_wrappers", "tasks", "reports"):
        done = subprocess.run(
            [sys.executable, "-c", f"import redundancy_eval.{side}"], cwd=other_checkout, capture_output=True, text=True
        )
        assert done.returncode and "SetupError: two copies are mixed" in done.stderr


def test_a_core_without_its_side_folders_says_so(other_checkout):
    code = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        "from redundancy_eval.cli import main; sys.exit(main(['models']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=other_checkout, capture_output=True, text=True)
    assert "is not beside the core" in one_line(done)


def test_checkouts_and_wheels_belong_together_through_links_too(tmp_path, monkeypatch):
    core = tmp_path / "a" / "redundancy_eval"
    (core / "reports").mkdir(parents=True)
    (tmp_path / "a" / "tasks").mkdir()
    (tmp_path / "b" / "tasks").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    monkeypatch.setattr(place, "__file__", str(core / "place.py"))
    place.check(core / "reports" / "__init__.py")  # as in a wheel
    place.check(tmp_path / "a" / "tasks" / "__init__.py")  # as in a checkout
    place.check(tmp_path / "link" / "tasks" / "__init__.py")
    with pytest.raises(SetupError, match="two copies are mixed"):
        place.check(tmp_path / "b" / "tasks" / "__init__.py")


# --- command lines that are refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, named",
    [
        ([], "COMMAND"),
        (["reprot", "x"], "reprot"),
        (["--no-such-flag", "report", "x"], "unrecognized arguments: --no-such-flag"),
        (["report"], "RUNS"),
        (["report", "x", "--no-such-flag"], "unrecognized arguments: --no-such-flag"),
        (["verify", "x"], "RUNS"),
        (["models", "x"], "unrecognized arguments: x"),
        (["models", "x\nredundancy-eval: error: forged"], "unrecognized arguments: x"),
        (["demo", "--limit", "x"], "argument --limit: invalid int value: 'x'"),
        (["calibrate"], "--model"),
        (["parity"], "FOLDER"),
        (["tasks", "--taxonomy"], "--taxonomy"),
        (["doctor", "now"], "now"),
        (["vlmevalkit"], "--work-dir"),
        (["vlmevalkit", "--data"], "argument --data: expected at least one argument"),
        (["sweep"], "--model"),
        (["sweep", "--masks", "every"], "--model"),
        (["sweep", "--model", "eagle"], "argument --model: invalid choice"),
    ],
)
def test_a_command_line_that_is_refused_ends_in_one_line(arguments, named, capsys):
    assert cli.main(arguments) == 2
    out, said = capsys.readouterr()
    known = arguments and not arguments[0].startswith("-") and arguments[0] != "reprot"
    program = f"redundancy-eval {arguments[0]}" if known else "redundancy-eval"
    assert said.startswith(f"{program}: error: ") and said.endswith(f" (see {program} --help)\n")
    assert said.count("\n") == 1 and named in said and not out


@pytest.mark.framework
@pytest.mark.models
@pytest.mark.parametrize(
    "arguments, named",
    [
        (["plan", "--masks", "every"], "--model"),
        (
            ["plan", "--model", "eagle_masked", "--output_path", "out", "--limit", "x"],
            "argument --limit: invalid float",
        ),
        (
            ["sweep", "--model", "eagle_masked", "--output_path", "out", "--limit", "x"],
            "argument --limit: invalid float",
        ),
        (["sweep", "--model", "eagle_masked", "--model_args", "pretrained=demo", "--output_path", "out"], "--tasks"),
        (["run", "--model", "eagle_masked", "--no-such-flag", "1"], "unrecognized arguments: --no-such-flag 1"),
        (["run", "--model", "eagle_masked", "--num_fewshot", "x"], "--num_fewshot"),
        (["run", "--model", "eagle_masked", "--output_path", "out"], "--tasks"),  # lmms-eval itself exits 0
        (["run"], "--tasks"),
    ],
)
def test_what_the_framework_refuses_is_one_line_too(arguments, named, capsys, monkeypatch, tmp_path):
    pytest.importorskip("lmms_eval")
    monkeypatch.chdir(tmp_path)
    given = ["--model_args", "pretrained=demo"] if len(arguments) > 3 and "--model_args" not in arguments else []
    assert cli.main([*arguments, *given]) == 2
    program, said = f"redundancy-eval {arguments[0]}", capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("redundancy-eval")]
    assert len(lines) == 1 and lines[0].startswith(f"{program}: error: ") and named in lines[0], said
    assert lines[0].endswith(f"(see {program} --help)") and "usage:" not in said
    assert not any(tmp_path.iterdir())
