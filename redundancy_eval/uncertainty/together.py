"""Encoders together: Shapley values, pair interactions, and what is lost only when several are dropped."""

from collections.abc import Sequence

import numpy as np

from redundancy_eval.statistics import floor, games, verdicts
from redundancy_eval.statistics.covariance import Array, Estimates, linear
from redundancy_eval.uncertainty.encoders import no_headroom
from redundancy_eval.uncertainty.join import Joined, Place
from redundancy_eval.uncertainty.numbers import t_numbers
from redundancy_eval.uncertainty.results import NAN, Moebius, Number, Pair, Settings, Share, Shared


def moebius(joined: Joined, settings: Settings) -> list[Moebius]:
    """Moebius coefficients of the overall score; none where masks are missing."""
    game = _Game.of(joined, joined.overall)
    if joined.table.guessed or not game.whole:
        return []
    contrasts = game.contrasts(games.moebius(game.n)[:, game.subsets])
    values, _ = _estimates(joined.overall, contrasts, [True] * len(contrasts), "", settings)
    return [
        Moebius(tuple(name for i, name in enumerate(joined.encoders) if subset >> i & 1), number)
        for subset, number in enumerate(values)
    ]


def analyse(joined: Joined, settings: Settings) -> tuple[list[Share], list[Pair], list[Shared]]:
    """Of every category and overall; what needs masks that were not run is not known, with the reason."""
    if joined.table.guessed or len(joined.encoders) < 2:
        return [], [], []
    shares: list[Share] = []
    pairs: list[Pair] = []
    shared: list[Shared] = []
    for place in joined.places:
        game = _Game.of(joined, place)
        shares += _shares(joined, place, game, settings)
        pairs += _pairs(joined, place, game, settings)
        shared.append(_shared(joined, place, game, settings))
    return shares, pairs, shared


class _Game:
    """The masks that have a score at a place, as subsets of encoders kept."""

    def __init__(self, rows: Sequence[int], subsets: Sequence[int], encoders: int, masks: int):
        self.rows, self.subsets, self.n, self.masks = list(rows), subsets, encoders, masks
        self.reason = f"needs {2**encoders} masks; {len(self.rows)} of them run"

    @classmethod
    def of(cls, joined: Joined, place: Place) -> "_Game":
        rows = np.flatnonzero(~np.isnan(place.scores.values)).tolist()
        kept = [sum(1 << i for i, name in enumerate(joined.encoders) if name not in joined.masks[row]) for row in rows]
        return cls(rows, kept, len(joined.encoders), len(joined.masks))

    @property
    def whole(self) -> bool:
        return len(self.rows) == 2**self.n

    def contrasts(self, matrix: Array) -> Array:
        """A matrix over subsets as one over all masks."""
        wide = np.zeros((len(matrix), self.masks))
        wide[:, self.rows] = matrix
        return wide


def _estimates(
    place: Place, contrasts: Array, complete: Sequence[bool], reason: str, settings: Settings
) -> tuple[list[Number], Estimates]:
    """Statistics in points; those without all their masks are not known."""
    found = linear(place.scores, contrasts)
    needs = [np.flatnonzero(row).tolist() for row in contrasts]
    made = t_numbers(found, place, needs, settings.level, 100)
    missing = np.array([not each for each in complete])
    made = [
        Number(NAN, reason=place.reason(rows) or reason) if lost else n
        for n, lost, rows in zip(made, missing, needs, strict=True)
    ]
    known = Estimates(np.where(missing, np.nan, found.values), found.covariance, np.where(missing, np.nan, found.df))
    return made, known


def _shares(joined: Joined, place: Place, game: _Game, settings: Settings) -> list[Share]:
    if not game.whole:
        empty = Number(NAN, reason=game.reason)
        return [Share(name, place.name, empty, empty, empty) for name in joined.encoders]
    contrasts = game.contrasts(games.shapley(game.n, game.subsets))
    values, _ = _estimates(place, contrasts, [True] * game.n, "", settings)
    banzhaf = game.contrasts(games.banzhaf(game.n, game.subsets))
    plain, _ = _estimates(place, banzhaf, [True] * game.n, "", settings)
    reason = no_headroom(joined, place)
    if reason:
        relative = [Number(NAN, reason=reason)] * game.n
    else:
        found = floor.ratios(place.scores, contrasts, 0, joined.none)
        relative = t_numbers(found, place, [game.rows] * game.n, settings.level)
    return [
        Share(name, place.name, *numbers)
        for name, *numbers in zip(joined.encoders, values, relative, plain, strict=True)
    ]


def _pairs(joined: Joined, place: Place, game: _Game, settings: Settings) -> list[Pair]:
    alpha = 1 - settings.level
    top = games.at_the_full_model(game.n, game.subsets)
    reason = "needs the masks with each one and with both of the pair dropped"
    at_full, found = _estimates(place, game.contrasts(top), games.complete(top, 4).tolist(), reason, settings)
    p = verdicts.holm(verdicts.p_difference(found))
    word = games.words(found.values, p, alpha)
    several = game.n > 2
    contexts: list[Number | None] = [None] * len(word)
    contexts_p, contexts_word = np.full(len(word), np.nan), [""] * len(word)
    if several and game.whole:
        mean = game.contrasts(games.shapley_interaction(game.n, game.subsets))
        of_contexts, found = _estimates(place, mean, [True] * len(word), "", settings)
        contexts_p = verdicts.holm(verdicts.p_difference(found))
        contexts_word, contexts = games.words(found.values, contexts_p, alpha), list(of_contexts)
    elif several:
        contexts, contexts_word = [Number(NAN, reason=game.reason)] * len(word), [games.NOT_KNOWN] * len(word)
    return [
        Pair(
            (joined.encoders[i], joined.encoders[j]),
            place.name,
            at_full[k],
            word[k],
            float(p[k]),
            contexts[k],
            contexts_word[k],
            float(contexts_p[k]),
        )
        for k, (i, j) in enumerate(games.pairs(game.n))
    ]


def _shared(joined: Joined, place: Place, game: _Game, settings: Settings) -> Shared:
    matrix = games.shared(game.n, game.subsets)
    reason = "needs the full model, every single drop and all dropped"
    needed = [0, joined.none, *joined.singles]
    lost = place.reason(needed) or reason
    values, _ = _estimates(place, game.contrasts(matrix), games.complete(matrix, game.n + 2).tolist(), lost, settings)
    together = t_numbers(floor.headroom(place.scores, 0, joined.none), place, [[0, joined.none]], settings.level, 100)
    return Shared(place.name, values[0], together[0])
