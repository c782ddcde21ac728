"""The README.md of a pruned checkpoint: what was dropped, from what, what stands in for it, and the licence."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redundancy_eval.model_wrappers.families.card import Family
from redundancy_eval.pruned import Pruned

NAME = "README.md"
_STAND_INS = {
    "zero": "Zeros stand in for the output of what is gone.",
    "mean": "The mean over a sample of images stands in for the output of what is gone (`dropped_means.safetensors`).",
}


def text(own: Pruned, family: Family, folder: Path, summary: Mapping[str, Any]) -> str:
    """The page.

    Args:
        own: what the checkpoint says of itself.
        family: of both models.
        folder: of the whole one.
        summary: as in pruned.json.
    """
    kept = [name for name in own.encoders if name not in own.dropped]
    version = own.revision or summary["source_commit"]
    lines = [
        f"# {own.source} without {own.label}",
        "",
        f"Made with `redundancy-eval prune` (redundancy-eval {summary['redundancy-eval']}).",
        "",
        f"- **From** {own.source}{version and f', revision {version}'} (digest of its files {own.checkpoint}).",
        f"- **Dropped**: {', '.join(own.dropped)}. **Kept**: {', '.join(kept) or 'none'}.",
        f"- **Instead**: {_instead(own, summary)}",
        f"- **Loads as** `{family.model_id}`" + (
            ", and as a plain release of the encoders that are kept." if own.sliced else " of redundancy-eval alone."
        ),
        f"- **Licence of the weights**: {licence(own.source, family, folder)}",
        "",
        "Scores of this checkpoint are those of a mask of the whole model. `pruned.json` has all of this for programs.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def licence(source: str, family: Family, folder: Path) -> str:
    """What is known of the licence of a checkpoint's weights."""
    known = next((one.licence for one in family.checkpoints if one.hub_id == source), "")
    held = sorted(path.name for pattern in ("LICEN[SC]E*", "NOTICE*") for path in folder.glob(pattern))
    told = [*([known] if known else []), *([f"see {', '.join(held)}"] if held else [])]
    return "; ".join(told) or f"that of {source}, which is not known here"


def _instead(own: Pruned, summary: Mapping[str, Any]) -> str:
    if not own.refitted:
        return _STAND_INS[own.ablation]
    said = own.sample
    where = "in the weights of the fusion's first layer" if own.folded else "`dropped_guess.safetensors`"
    r2 = ", ".join(f"{name} {value:.3f}" for name, value in summary["held_out_r2"].items() if value is not None)
    return (
        f"the best linear guess from what is kept ({where}), fitted on {said['count']} images without labels (sample "
        f"{said['sample']}). Held-out R2: {r2}."
    )
