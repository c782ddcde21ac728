"""Linear stand-ins for what hooks replace: of one prompt, from what the kept modules gave for it, call by call."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.masking.predicted import Predictor


class Guessing:
    """The stand-ins of one prompt.

    Args:
        predictor: of the model; its layout has an entry `<encoder>.<number of the tensor>` for each output.
        mask: the dropped encoders.
        seen: what each kept entry was, (units, tokens, channels) for each call of its module.
    """

    def __init__(self, predictor: Predictor, mask: Collection[str], seen: Mapping[str, Sequence[Tensor]]):
        self.predictor, self.seen = predictor, seen
        self.dropped = [entry for entry in predictor.layout.channels if entry.rpartition(".")[0] in mask]
        self.calls: Counter[str] = Counter()

    def stand_in(self, entry: str, output: Tensor) -> Tensor:
        """What takes the place of an output, of a dropped entry's next call.

        Raises:
            SetupError: kept modules have no tokens at the same places for this prompt.
        """
        call = self.calls[entry]
        self.calls[entry] += 1
        kept = {name: calls[call] for name, calls in self.seen.items() if call < len(calls)}
        shapes = {name: tuple(other.shape) for name, other in {entry: output, **kept}.items()}
        if len(kept) < len(self.seen) or len({shape[:2] for shape in shapes.values()}) > 1:
            raise SetupError(f"outputs have no tokens at the same places for this prompt: {shapes}")
        units, places = output.shape[:2]
        return self.predictor.stand_ins(kept, self.dropped, units, places, output)[entry]
