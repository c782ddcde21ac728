"""A tiny random checkpoint of every family."""

from pathlib import Path

from tests.helpers import (
    tiny,
    tiny_cambrian,
    tiny_deepseek_ocr,
    tiny_deepseek_vl,
    tiny_eagle2,
    tiny_imof,
    tiny_mgm,
    tiny_mova,
    tiny_prismatic,
)


def write(root: Path) -> dict[str, dict[str, str]]:
    """Model id -> model arguments of its checkpoint below a folder."""
    made = {"eagle_masked": {"pretrained": str(tiny.write(root / "eagle"))}}
    made["deepseek_vl_masked"] = {"pretrained": str(tiny_deepseek_vl.write(root / "deepseek"))}
    made["eagle2_masked"] = {"pretrained": str(tiny_eagle2.write(root / "eagle2"))}
    ocr = tiny_deepseek_ocr.write(root / "ocr")
    made["deepseek_ocr_masked"] = {"pretrained": str(ocr), "base_size": "128", "chain": "cut"}
    elsewhere = {
        "cambrian_masked": tiny_cambrian, "imof_masked": tiny_imof, "prismatic_masked": tiny_prismatic,
        "mgm_masked": tiny_mgm, "mova_masked": tiny_mova,
    }  # fmt: skip
    for model_id, kind in elsewhere.items():
        folder, towers = kind.write(root / model_id)
        made[model_id] = {"pretrained": str(folder), "encoder_weights": str(towers)}
    return made
