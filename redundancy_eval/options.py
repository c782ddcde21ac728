"""How runs are read, as the user said."""

from dataclasses import dataclass

from redundancy_eval.taxonomy import DEFAULT


@dataclass(frozen=True)
class Options:
    """How runs are read; kept in a report, so that `verify` reads them in the same way.

    `taxonomy` and `mmvp_pairs` as for `taxonomy.load`; `encoders` in the checkpoint's order, where they are not known;
    `mask_of` as for `readers.mask_of.MaskOf.parse`; `lenient` as for `leniency.Leniency`; `scale` as for
    `readers.csv_scores.Reader`.
    """

    taxonomy: str = DEFAULT
    mmvp_pairs: bool = False
    encoders: tuple[str, ...] = ()
    mask_of: tuple[str, ...] = ()
    lenient: tuple[str, ...] = ()
    scale: float | None = None
