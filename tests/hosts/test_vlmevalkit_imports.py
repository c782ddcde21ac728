"""Where VLMEvalKit is imported, and what it does to files outside of our launcher."""

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("vlmeval") is None:
    pytest.skip("needs the extra vlmevalkit", allow_module_level=True)

from redundancy_eval.readers.vlmevalkit import spreadsheets

pytestmark = [pytest.mark.framework, pytest.mark.models]
ROOT = Path(__file__).resolve().parents[2]


def imports(nodes):
    for node in nodes:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        yield from (name.partition(".")[0] for name in names)


def test_only_the_launcher_s_modules_import_vlmevalkit():
    """Core, readers and reports never do, nor does what is imported before the launcher has loaded it."""
    anywhere, at_once = set(), set()
    for folder in ("redundancy_eval", "reports", "tasks", "model_wrappers"):
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            name = path.relative_to(ROOT).with_suffix("").as_posix()
            anywhere |= {name} if "vlmeval" in imports(ast.walk(tree)) else set()
            at_once |= {name} if "vlmeval" in imports(tree.body) else set()
    host = "model_wrappers/hosts/vlmevalkit"
    assert at_once == {f"{host}/{name}" for name in ("model", "hooked", "listen")}
    assert anywhere - at_once == {f"{host}/{name}" for name in ("launch", "mended", "route")}


def test_replies_that_begin_with_an_equals_sign_stay_text(tmp_path):
    """VLMEvalKit's own writer, as our launcher runs it, and outside of that."""
    code = (
        "import pandas as pd\nfrom vlmeval.smp import dump, load\n"
        "from redundancy_eval.model_wrappers.hosts.vlmevalkit.mended import mended\n"
        "frame = pd.DataFrame({'index': [1, 2, 3], 'prediction': ['=5', '====', '=A']})\n"
        "with mended('exact_matching', None):\n    dump(frame, 'kept.xlsx')\n"
        "dump(frame, 'lost.xlsx')\n"
        "assert list(load('kept.xlsx')['prediction']) == ['=5', '====', '=A'], load('kept.xlsx')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    kept, lost = (spreadsheets.read(tmp_path / f"{name}.xlsx")[1:] for name in ("kept", "lost"))
    assert [row[1] for row in kept] == ["=5", "====", "=A"]
    assert [row[1] for row in lost] == [spreadsheets.FORMULA] * 3
