"""Write what the docs say of the code and of the lock from the code and the lock.

    python docs/generate.py            write
    python docs/generate.py --check    fail where something that is written is out of date

In Markdown files a generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from redundancy_eval import cli
from redundancy_eval.model_wrappers.families import registry

ROOT = Path(__file__).resolve().parents[1]
LOCK, TESTED = ROOT / "requirements.lock", ROOT / "redundancy_eval" / "tested.json"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# What decides an answer, a score or whether anything can be imported; the lock has the rest.
SHOWN = (
    "torch", "torchvision", "transformers", "tokenizers", "sentencepiece", "accelerate", "timm", "safetensors",
    "huggingface-hub", "datasets", "pillow", "lmms-eval", "ms-vlmeval", "filelock", "protobuf",
    "antlr4-python3-runtime", "math-verify", "msgspec", "numpy", "packaging", "pandas", "python-calamine",
    "scipy", "matplotlib", "jinja2",
)  # fmt: skip
_PART = re.compile(r"(<!-- generated: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def locked(python: str) -> dict[str, str]:
    """Name -> version of what the lock installs on Linux with a Python."""
    environment = {
        "python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "extra": "",
        "platform_system": "Linux", "platform_machine": "x86_64", "implementation_name": "cpython", "os_name": "posix",
        "platform_python_implementation": "CPython",
    }  # fmt: skip
    lines = [line.rstrip("\\ ") for line in LOCK.read_text().splitlines() if line[:1].isalnum()]
    wanted = [Requirement(line) for line in lines]
    kept = [r for r in wanted if r.marker is None or r.marker.evaluate(environment)]
    return {requirement.name: str(requirement.specifier).removeprefix("==") for requirement in kept}


def versions() -> str:
    """The table of the tested set."""
    of = {python: locked(python) for python in PYTHONS}
    rows = [
        "| package | " + " | ".join(f"Python {python}" for python in PYTHONS) + " |",
        "|---|" + "---|" * len(PYTHONS),
    ]
    rows += [f"| {name} | " + " | ".join(of[python][name] for python in PYTHONS) + " |" for name in SHOWN]
    return "\n".join(rows) + "\n"


def models() -> str:
    """The table of families: from what `redundancy-eval models` prints."""
    rows = ["| `--model` | family | encoders (million parameters, GFLOPs an image or tile) | templates | sites |"]
    rows.append("|---|---|---|---|---|")
    for family in registry.FAMILIES.values():
        if not family.model.startswith("redundancy_eval."):  # of another package, installed here by chance
            continue
        costs = ", ".join(f"`{name}` ({million:g}, {flops:g})" for name, (million, flops) in family.costs.items())
        templates = ", ".join(dict.fromkeys(checkpoint.template for checkpoint in family.checkpoints))
        rows.append(f"| `{family.model_id}` | {family.title} | {costs} | {templates} | {', '.join(family.sites)} |")
    named = "`encoders=NAME:MODULE.PATH+...` | its own | that module's output"
    rows.append(f"| `{registry.HF_MASKED}` | any transformers image-text-to-text model | {named} |")
    rows.append(f"| `{registry.MASKED}` | any model of lmms-eval or VLMEvalKit, `base=ID` | {named} |")
    return "\n".join(rows) + "\n"


def commands() -> str:
    """The table of commands: from the command line's own help."""
    choices = next(action for action in cli.parser()._actions if action.choices and not action.option_strings)
    listed = ((action.dest, action.help) for action in choices._choices_actions)  # type: ignore[attr-defined]
    return "\n".join(["| command | |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in listed)]) + "\n"


PARTS = {"versions": versions, "models": models, "commands": commands}


def made() -> Iterator[tuple[Path, str]]:
    """Each file with a generated part, and what it should hold."""
    yield TESTED, json.dumps({p: {name: locked(p)[name] for name in SHOWN} for p in PYTHONS}, indent=1) + "\n"
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        if _PART.search(text):
            yield path, _PART.sub(lambda found: found[1] + PARTS[found[2]]() + found[3], text)


def main() -> int:
    """Write, or compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is out of date")
    check = parser.parse_args().check
    stale = [(path, text) for path, text in made() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path, text in stale:
        print(f"{path.relative_to(ROOT)} {'is out of date: run python docs/generate.py' if check else 'written'}")
        if not check:
            path.write_text(text, encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
