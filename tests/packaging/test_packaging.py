"""The package as users get it: what a wheel holds, what imports what, what needs torch and what does not."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("redundancy_eval", "model_wrappers", "tasks", "reports")
HEAVY = {"torch", "transformers", "timm", "lmms_eval", "vlmeval", "accelerate", "datasets"}


def python(code, *arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300
    )


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


def test_side_folders_are_imported_by_their_package_names_only():
    sources = [p for folder in (*FOLDERS, "tests", "examples", "benchmarks") for p in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 25
    wrong = [(p.name, name) for p in sources for name in imports(p) if name.split(".")[0] in FOLDERS[1:]]
    assert not wrong


def test_the_core_imports_neither_torch_nor_a_framework():
    wrong = [
        (p.name, n) for p in (ROOT / "redundancy_eval").rglob("*.py") for n in imports(p) if n.split(".")[0] in HEAVY
    ]
    assert not wrong


@pytest.mark.parametrize(
    "arguments", [["--help"], ["models"], ["tasks"], ["tasks", "--path"], ["report", "--help"], ["report", "runs"]]
)
def test_light_commands_never_import_torch_or_a_framework(arguments, tmp_path):
    from tests.helpers.runs import DEMO_TASKS, write_run

    write_run(tmp_path / "runs", "none", {DEMO_TASKS[0]: [1, 0]})
    code = (
        "import sys\nfrom redundancy_eval.cli import main\n"
        "try:\n    code = main(sys.argv[1:])\nexcept SystemExit as stop:\n    code = stop.code\n"
        f"heavy = sorted({HEAVY!r} & set(sys.modules))\n"
        "sys.exit(code or (f'imported {heavy}' if heavy else 0))"
    )
    done = python(code, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # setuptools would pack what an earlier build left there
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(ROOT)],
        check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    return next(out.glob("*.whl"))


def test_wheel_holds_everything_inside_the_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"redundancy_eval"}
    inside = {name.removeprefix("redundancy_eval/") for name in names}
    assert {
        "py.typed", "taxonomy.json", "tested.json", "commands/doctor.py",
        "model_wrappers/families/eagle/card.py", "model_wrappers/families/eagle/model.py",
        "reports/write.py", "tasks/demo/ocr.jsonl",
        "tasks/paper/_paper_yaml", "tasks/paper/redundancy_group_paper.yaml", "tasks/paper/answers.py",
        "tasks/demo/_demo_yaml", "tasks/demo/redundancy_demo.yaml", "model_wrappers/demo_checkpoint/model.safetensors",
        "model_wrappers/demo_checkpoint/tokenizer.json", "model_wrappers/demo_checkpoint/config.json",
    } <= inside  # fmt: skip
    size = sum(i.file_size for i in zipfile.ZipFile(wheel).infolist() if "demo_checkpoint" in i.filename)
    assert size <= 20e6


@pytest.mark.parametrize("through", ["itself", "a link"])
def test_a_checkout_and_a_wheel_are_each_of_one_place(wheel, tmp_path, through):
    code = (
        "from redundancy_eval import place, model_wrappers, tasks, reports\nfrom redundancy_eval.tasks import paper\n"
        "place.check_all()\nprint(reports.__file__)"
    )
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    for found, inside in ((ROOT, ROOT / "reports"), (site, site / "redundancy_eval" / "reports")):
        first = found
        if through == "a link":
            first = tmp_path / f"link to {found.name}"
            first.symlink_to(found, target_is_directory=True)
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300,
            env={**os.environ, "PYTHONPATH": str(first)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert Path(done.stdout.strip()).resolve().parent == inside.resolve()


def test_the_version_stands_in_one_place(wheel):
    """In `redundancy_eval.__version__`: pyproject.toml reads it from there, CITATION.cff repeats it."""
    import redundancy_eval

    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited and cited[1] == redundancy_eval.__version__ == wheel.name.split("-")[1]


def test_generated_parts_of_the_docs_are_what_code_and_lock_say():
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_public_names_are_there_and_light_until_used(tmp_path):
    from tests.helpers.runs import DEMO_TASKS, write_run

    for drop in ("none", "clip"):
        write_run(tmp_path / "runs", drop, {DEMO_TASKS[0]: [1, 0, 1, 1]})
    code = (
        "import sys, redundancy_eval\nassert 'pandas' not in sys.modules\n"
        "from redundancy_eval import *\nassert DataError and SetupError and SampleScores\n"
        "(table,) = read(['runs'], Options(taxonomy='five'))\nassert isinstance(table, ScoreTable)\n"
        "print(table.model, table.encoders, table.row(()), table.cur().shape, table.notes, table.signature)\n"
        f"assert not {HEAVY!r} & set(sys.modules)"
    )
    done = python(code, cwd=tmp_path)
    assert done.returncode == 0 and "eagle_masked" in done.stdout, done.stderr


@pytest.mark.slow
def test_types_of_the_installed_wheel(wheel, tmp_path):
    pytest.importorskip("mypy", reason="needs the dependency group lint")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)

    def types():
        command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "-p", "redundancy_eval"]
        env = {**os.environ, "MYPYPATH": str(site)}
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, env=env)

    done = types()
    assert done.returncode == 0, done.stdout
    assert "no issues found" in done.stdout
    for name, right, wrong in MISSPELT:
        path = site / "redundancy_eval" / "model_wrappers" / f"{name}.py"
        text = path.read_text()
        assert right in text
        path.write_text(text.replace(right, wrong, 1))
    said = types().stdout
    assert [wrong for _, _, wrong in MISSPELT if f'has no attribute "{wrong.split(".")[-1][:-1]}"' not in said] == [], (
        said
    )


# Calls into the model layer and into a framework's side of a sweep, which a type checker must follow.
MISSPELT = [
    ("masking/native", "self.model.fuse(", "self.model.fuze("),
    ("masking/native", "self.model.layouts(", "self.model.layoutz("),
    ("families/base", "encoder.restore_buffers(", "encoder.restore_bufferz("),
    ("masking/parity", "recorded.input_ids(", "recorded.input_idz("),
    ("hosts/lmms_eval/model", "self.masked.generate(", "self.masked.generatez("),
    ("sweeps/run", "route.evaluate(", "route.evalute("),
    ("sweeps/run", "route.folder(", "route.foldr("),
    ("sweeps/run", "framework.versions(", "framework.versionz("),
    ("sweeps/plan", "route.listen(", "route.lissen("),
]


@pytest.mark.slow
def test_reports_need_the_base_dependencies_only(wheel, tmp_path):
    """A fresh environment without torch: install the wheel, read runs, write tables; `run` says what it needs."""
    from tests.helpers.runs import DEMO_TASKS, write_run

    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    subprocess.run([scripts / "python", "-m", "pip", "install", "--quiet", str(wheel)], check=True, timeout=600)
    for drop in ("none", "clip", "all"):
        write_run(tmp_path / "runs", drop, {DEMO_TASKS[0]: [1, 0, 1, 1]})

    def command(*arguments):
        return subprocess.run(
            [scripts / "redundancy-eval", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )

    done = command("report", "runs", "-o", "tables")
    assert done.returncode == 0 and "| full model " in done.stdout, done.stderr
    assert (tmp_path / "tables" / "cur.tex").exists()
    assert "NVEagle/Eagle-X5-7B" in command("models").stdout
    given = ["--model", "eagle_masked", "--model_args", "pretrained=demo"]
    sweep = [*given, "--output_path", "w"]
    for arguments in (
        ["run", *given], ["parity", "."], ["demo"], ["tasks", "--check"],
        ["calibrate", *given, "--images", ".", "-o", "f"], ["vlmevalkit", *given, "--data", "MME", "--work-dir", "w"],
        ["plan", *sweep], ["plan", *sweep, "--framework=vlmevalkit"],
        ["sweep", *sweep], ["sweep", *sweep, "--framework", "vlmevalkit"],
    ):  # fmt: skip
        done = command(*arguments)
        assert done.returncode == 2 and "pip install 'redundancy-eval[" in done.stderr, done.stderr
        assert done.stderr.startswith("redundancy-eval: error: ") and done.stderr.count("\n") == 1
    done = command("doctor")
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    assert "report, verify, models, tasks: ready" in done.stdout
    for extra in ("models", "lmms-eval", "vlmevalkit"):
        assert f"pip install 'redundancy-eval[{extra}]'" in done.stdout
