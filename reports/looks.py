"""How an encoder looks and is called: one colour and one marker in every figure and on the page, of every model.

Hues are those of Okabe and Ito (Color Universal Design, 2008), told apart by the colour-blind; yellow, which vanishes
on white, is darkened. A marker goes with each, so that figures survive a black-and-white printer. `light` and `dark`
are for text: 4.5:1 or more on the page's grounds (WCAG 2, 1.4.3).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from redundancy_eval import shown


@dataclass(frozen=True)
class Look:
    """`key` is a word for style sheets, `colour` and `marker` for figures, `light` and `dark` colours of text."""

    key: str
    name: str
    colour: str
    marker: str
    light: str
    dark: str


_KNOWN = {
    "clip": Look("clip", "CLIP", "#0072B2", "o", "#0072b2", "#4aa8e0"),
    "siglip": Look("siglip", "SigLIP", "#56B4E9", "s", "#1b74a8", "#7cc7f2"),
    "convnext": Look("convnext", "ConvNeXt", "#009E73", "^", "#007a57", "#2fbf93"),
    "dinov2": Look("dinov2", "DINOv2", "#CC79A7", "D", "#a34a7a", "#dd8fba"),
    "sam": Look("sam", "SAM", "#E69F00", "v", "#946200", "#e9a93b"),
    "eva02": Look("eva02", "EVA-02", "#D55E00", "P", "#b04600", "#f0803c"),
    "pix2struct": Look("pix2struct", "Pix2Struct", "#7A6A00", "X", "#766600", "#c9b43a"),
}
_OTHERS = (
    ("#6A3D9A", "<", "#6a3d9a", "#b08ae0"), ("#444444", ">", "#444444", "#bbbbbb"),
    ("#A6761D", "p", "#80590f", "#d9a552"), ("#1B7837", "h", "#1b7837", "#5cbf78"),
    ("#8C2D04", "d", "#8c2d04", "#e08a62"), ("#3F51B5", "*", "#3f51b5", "#94a1f0"),
)  # fmt: skip


def looks(encoders: Iterable[str]) -> Mapping[str, Look]:
    """A look for each encoder of all models that are shown together; those not known here by their names' order."""
    names = sorted(set(encoders))
    strangers = [name for name in names if name not in _KNOWN]
    found = {name: _KNOWN[name] for name in names if name in _KNOWN}
    for number, name in enumerate(strangers):
        found[name] = Look(f"x{number % len(_OTHERS)}", shown.text(name), *_OTHERS[number % len(_OTHERS)])
    return found


def ink(red: float, green: float, blue: float) -> str:
    """Black or white, whichever reads better on a colour (fractions), by WCAG's relative luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if luminance < 0.179 else "black"  # where both contrasts are 4.58
