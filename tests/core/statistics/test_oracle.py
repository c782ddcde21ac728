"""Worked cases with values from foreign implementations (recordings/statistics/oracle.json; each names its source)."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from redundancy_eval.statistics import (
    covariance,
    cur,
    draws,
    floor,
    games,
    gap,
    intervals,
    planning,
    selection,
    verdicts,
)
from redundancy_eval.statistics.covariance import Estimates

FILE = Path(__file__).parents[2] / "recordings" / "statistics" / "oracle.json"
CASES = json.loads(FILE.read_text())["cases"]


def rng():
    return draws.generator(0, "oracle")


def told(values, variance, df=np.inf):
    values = np.atleast_1d(np.asarray(values, float))
    matrix = np.asarray(variance, float)
    matrix = matrix if matrix.ndim == 2 else np.diag(np.atleast_1d(matrix))
    return Estimates(values, matrix, np.full(len(values), df))


def singletons(rows):
    rows = np.atleast_2d(np.asarray(rows, float))
    return covariance.benchmark(rows, np.ones(rows.shape[1]))


def score_of_documents(given, expected):
    scores = singletons(given["scores"])
    found = covariance.linear(scores, np.eye(3), pseudo_unit=False)
    against = covariance.linear(scores, [[1, -1, 0], [1, 0, -1]], pseudo_unit=False)
    return {"score": scores.values, "se": found.se, "se_difference": against.se}


def score_of_clusters(given, expected):
    scores = covariance.benchmark(given["num"], given["den"])
    found = covariance.linear(scores, np.eye(3), pseudo_unit=False)
    return {
        "score": scores.values,
        "variance": found.se**2,
        "kish": scores.effective[0],
        "df": found.df[0],
    }


def score_of_strata(given, expected):
    strata = [str(each) for each in given["strata"]]
    weights = {str(i): weight for i, weight in enumerate(given["weights"])}
    scores = covariance.benchmark(given["num"], given["den"], strata, weights)
    found = covariance.linear(scores, np.eye(3)[:1], pseudo_unit=False)
    return {"score": found.values[0], "variance": found.se[0] ** 2}


def pure(scores):
    """CURs' variance with and without the pseudo unit."""
    found = cur.curs(scores, 0, [1])
    gradient = np.zeros((1, len(scores.values)))
    gradient[0, :2] = scores.values[1] / scores.values[0] ** 2, -1 / scores.values[0]
    without = covariance.estimates(found.values, [(scores, gradient)], pseudo_unit=False)
    return found, without


def cur_of_clusters(given, expected):
    found, without = pure(covariance.benchmark(given["num"], given["den"]))
    variance = without.se[0] ** 2
    return {"cur": found.values[0], "variance": variance, "pseudo_unit_adds": found.se[0] ** 2 - variance}


def cur_of_documents(given, expected):
    found, without = pure(singletons([given["full"], given["without"]]))
    return {"cur": found.values[0], "se": without.se[0]}


def cur_beside_bca(given, expected):
    low, high = intervals.t_interval(cur.curs(singletons([given["full"], given["without"]]), 0, [1]))
    near = 0.3 * (expected["high"] - expected["low"])
    assert abs(low[0] - expected["low"]) < near and abs(high[0] - expected["high"]) < near
    return {}


def wilson(given, expected):
    low, high = intervals.wilson(given["p"], given["n"], np.inf)
    return {"low": low, "high": high}


def null_of_gap(given, expected):
    df, variance = given["df"] or np.inf, np.array(given["V"])
    count = len(variance)
    at = [expected["null95"], *[0.0] * (count - 1)]
    assert gap.information_gap(told(at, variance, df), rng()).p == pytest.approx(expected["p_at_null95"], abs=0.003)
    half = variance * 0.5 + variance[0, 0] * 0.5
    return {
        "null95": gap.information_gap(told(np.zeros(count), variance, df), rng()).null,
        "null95_correlated_half": gap.information_gap(told(np.zeros(count), half, df), rng()).null,
    }


def interval_of_gap(given, expected):
    found = gap.information_gap(told(given["u"], given["V"]), rng())
    assert found.p == pytest.approx(expected["p"], rel=0.01, abs=2e-5)
    return {"ig": found.value, "low": found.low, "high": found.high}


def holm(given, expected):
    return {"adjusted": verdicts.holm(given["p"])}


def equivalence(given, expected):
    found = told(given["difference"], given["se"] ** 2, given["df"])
    return {"p": verdicts.p_equivalence(found, given["margin"])[0]}


def difference(given, expected):
    return {"p": verdicts.p_difference(told(given["difference"], given["se"] ** 2, given["df"]))[0]}


def mcnemar(given, expected):
    found = verdicts.mcnemar(given["losses"], given["gains"])
    return {"exact": found.exact, "mid_p": found.mid}


def sign_flip(given, expected):
    """The test that ours replaces: every sign of every cluster's difference."""
    changes = np.array(given["cluster_differences"], float)
    sums = np.abs(np.array(list(product([1, -1], repeat=len(changes)))) @ changes)
    full = np.stack([np.maximum(changes, 0), np.maximum(-changes, 0)])
    ours = verdicts.p_difference(covariance.linear(singletons(full), [[1, -1]]))[0]
    p = float(np.mean(sums >= abs(changes.sum()) - 1e-12))
    assert ours == pytest.approx(p, abs=0.04)
    return {"p": p}


def words(given, expected):
    said = verdicts.verdicts(given["u"], given["p_diff"], given["p_eq"])
    assert said.tolist() == expected["verdict"]
    return {}


def game(given, expected):
    values = np.array(given["v"], float)
    n = int(np.log2(len(values)))
    assert [list(pair) for pair in games.pairs(n)] == expected["pairs"]
    return {
        "shapley": games.shapley(n) @ values,
        "banzhaf": games.banzhaf(n) @ values,
        "shapley_interaction": games.shapley_interaction(n) @ values,
        "banzhaf_interaction": games.banzhaf_interaction(n) @ values,
        "at_full": games.at_the_full_model(n) @ values,
        "moebius": games.moebius(n) @ values,
    }


def game_of_the_paper(given, expected):
    # Bit 0 is the encoder whose drop is listed first.
    values = np.array([given["none"], given["without"][1], given["without"][0], given["full"]])
    return {
        "shapley": games.shapley(2) @ values,
        "interaction": (games.shapley_interaction(2) @ values)[0],
        "shared": (games.shared(2) @ values)[0],
    }


def simultaneous(given, expected):
    covered = np.array(given["V"])
    largest = draws.of_draws(covered, np.inf, rng(), lambda z: (z / np.sqrt(np.diag(covered))).max(axis=1))
    return {"quantile": draws.upper(largest)}


def told_apart(given, expected):
    kept = selection.not_told_apart(told(given["v"], given["V"]), rng())
    assert np.flatnonzero(kept).tolist() == expected["set"]
    return {}


def curse(given, expected):
    found = selection.best(told(given["v"], given["V"]), rng())
    return {"curse": found.value - found.corrected}


def confidence_set(given, expected):
    scores = singletons(np.array(given["scores"], float).T)
    kept = selection.not_told_apart(covariance.linear(scores, np.eye(len(scores.values))), rng())
    assert set(expected["included"]) <= set(np.flatnonzero(kept).tolist())
    return {}


def floor_corrected(given, expected):
    scores = covariance.unknown([given["full"], given["without"], given["none"]])
    return {"value": floor.floor_corrected(scores, 0, [1], 2).values[0]}


def documents_redundant(given, expected):
    margin, family = given["margin"], given["family"]
    planned = planning.documents_for_redundant(margin, given["full"], given["share"], family=family)
    se = given["share"] ** 0.5 / given["full"]
    for other in (
        verdicts.documents_to_decide([0.0], [se], [1], margin, family)[0],
        planning.documents_from_pilot(1, se, margin, family),
    ):
        assert other == pytest.approx(planned)
    return {"documents": planned}


def documents_needed(given, expected):
    return {"documents": planning.documents_for_needed(given["u"], given["full"], given["share"])}


BY_NAME = {
    "score SE, one document a cluster": score_of_documents,
    "score variance, unequal clusters": score_of_clusters,
    "score variance, three strata": score_of_strata,
    "CUR variance, unequal clusters": cur_of_clusters,
    "CUR SE, singletons": cur_of_documents,
    "CUR interval beside BCa": cur_beside_bca,
    "Wilson": wilson,
    "IG null": null_of_gap,
    "IG interval": interval_of_gap,
    "Holm": holm,
    "TOST": equivalence,
    "difference test": difference,
    "McNemar": mcnemar,
    "sign flip": sign_flip,
    "verdict words": words,
    "game of": game,
    "paper:": game_of_the_paper,
    "simultaneous": simultaneous,
    "set of subsets": told_apart,
    "winner's curse": curse,
    "model confidence set": confidence_set,
    "floor-corrected CUR": floor_corrected,
    "documents for 'redundant'": documents_redundant,
    "documents for 'needed'": documents_needed,
}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_values_of_foreign_implementations(case):
    compute = next(function for name, function in BY_NAME.items() if case["name"].startswith(name))
    expected = case["expected"]
    for key, value in compute(case["input"], expected).items():
        np.testing.assert_allclose(value, expected[key], rtol=case["rtol"], atol=1e-3 * case["rtol"], err_msg=key)


def test_all_cases_are_here():
    assert len(CASES) == 38
