"""The report as one HTML file: everything inlined, nothing loaded, every text from outside escaped.

text = build([subject], {subject.name: drill.sample(subject, answers)})
"""

import base64
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from jinja2 import DictLoader, Environment, StrictUndefined, Template
from markupsafe import Markup

import redundancy_eval
from redundancy_eval.reports.looks import Look
from redundancy_eval.reports.page import parts, texts, view
from redundancy_eval.reports.page.drill import Sample, sample
from redundancy_eval.reports.subject import Subject, all_looks

__all__ = ["Sample", "build", "sample", "write"]


def build(subjects: Sequence[Subject], samples: Mapping[str, Sample] | None = None) -> str:
    """The page of one or several models as text; the same input gives the same text.

    Args:
        subjects: the models.
        samples: answers that change, by the subject's name; none are shown where there are none.
    """
    looks, samples = all_looks(subjects), samples or {}
    style, script = _file("page.css") + _colours(looks.values()) + _shades(), _file("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    several = len(subjects) > 1
    return _template().render(
        policy=policy, style=Markup(style), script=Markup(script), version=redundancy_eval.__version__,
        title=f"{len(subjects)} models" if several else texts.name(subjects[0].name),
        several=several, level=3 if several else 2,
        comparison=view.comparison(subjects, looks) if several else [],
        models=[
            view.model(subject, number, looks, samples.get(subject.name, Sample()))
            for number, subject in enumerate(subjects)
        ],
    )  # fmt: skip


def write(subjects: Sequence[Subject], path: Path, samples: Mapping[str, Sample] | None = None) -> Path:
    """`build` into a file, whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(build(subjects, samples), encoding="utf-8", errors="replace")
    temporary.replace(path)
    return path


@functools.cache  # compiling it takes longer than a page does
def _template() -> Template:
    environment = Environment(
        loader=DictLoader({"page": _file("page.html.j2")}),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page")


def _file(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The source expression that lets a content security policy accept an inline text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _colours(looks: Iterable[Look]) -> str:
    """Each encoder's colour on light and dark grounds, and what wears it."""
    keys = {look.key: look for look in looks}
    light, dark = (
        " ".join(f"--{key}: {getattr(look, ground)};" for key, look in keys.items()) for ground in ("light", "dark")
    )
    return (
        f":root {{ {light} }}\n"
        f'@media screen and (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{ {dark} }} }}\n'
        f'@media screen {{ :root[data-theme="dark"] {{ {dark} }} }}\n'
    ) + "".join(
        f".e-{k} {{ color: var(--{k}); font-weight: 600; }} .c-{k} {{ border-left-color: var(--{k}); }}"
        f" .s-{k} {{ stroke: var(--{k}); fill: var(--{k}); }}\n"
        for k in keys
    )


def _shades() -> str:
    """Shades of a heat map: towards --hot above 0, --cold below."""
    return "".join(
        f".h{sign}{k} {{ background: color-mix(in srgb, var(--{side}) {5 * k}%, var(--bg)); }}\n"
        for side, sign in (("hot", ""), ("cold", "-"))
        for k in range(1, parts.HEAT + 1)
    )
