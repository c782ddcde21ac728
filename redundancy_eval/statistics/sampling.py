"""A random sample of a benchmark's documents: whole clusters, proportional among strata, one the beginning of the next.

Clusters stand in the order of a hash of their name, so that a sample is the same under every mask, on every machine and
in every version of Python and numpy. All samples of a seed are beginnings of one order: a larger one holds the smaller.
"""

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

Indices = NDArray[np.intp]


def order(clusters: ArrayLike, strata: ArrayLike, seed: int = 0, name: str = "") -> Indices:
    """All documents of a benchmark, in the order in which samples take them.

    First one cluster of each stratum, the largest stratum's first. Then strata take turns, so that each has its share
    of every beginning: a cluster's turn is the part of its stratum that lies before its middle (Webster's method, where
    clusters are single documents). Within a stratum clusters are in random order, within a cluster documents in theirs.

    Args:
        clusters: (documents,) cluster of each document, unique within a stratum.
        strata: (documents,) stratum of each document.
        seed: of the random order.
        name: of the benchmark, so that two of them do not draw alike.

    Returns:
        (documents,) indices of documents.
    """
    return np.argsort(_turns(clusters, strata, seed, name), kind="stable")


def sample(clusters: ArrayLike, strata: ArrayLike, count: int, seed: int = 0, name: str = "") -> Indices:
    """A random sample: whole clusters from the beginning of `order`, until there are `count` documents.

    Where clusters hold several documents there may be more, by less than the last cluster. No stratum is empty where
    `count` is at least the sum of the first cluster of each.

    Args:
        clusters: (documents,) cluster of each document, unique within a stratum.
        strata: (documents,) stratum of each document.
        count: of documents, at least 1; all where there are no more.
        seed: of the random order.
        name: of the benchmark.

    Returns:
        (drawn,) indices of documents, ascending.
    """
    turns = _turns(clusters, strata, seed, name)
    last = np.sort(turns)[min(max(count, 1), len(turns)) - 1 :][:1]
    return np.flatnonzero(turns <= last) if len(last) else np.zeros(0, dtype=np.intp)


def _turns(clusters: ArrayLike, strata: ArrayLike, seed: int, name: str) -> Indices:
    """(documents,) place of each document's cluster in the order of all clusters."""
    members: dict[tuple[str, str], list[int]] = {}
    names = np.asarray(clusters, dtype=np.str_).tolist(), np.asarray(strata, dtype=np.str_).tolist()
    for place, (cluster, stratum) in enumerate(zip(*names, strict=True)):
        members.setdefault((stratum, cluster), []).append(place)
    keys: list[tuple[bool, float, bytes, list[int]]] = []
    before: dict[str, int] = {}
    totals = {stratum: names[1].count(stratum) for stratum in set(names[1])}
    for stratum, cluster in sorted(members, key=lambda own: (_hash(seed, name, *own), own)):
        found, done = members[stratum, cluster], before.get(stratum, 0)
        turn = (2 * done + len(found)) / (2 * totals[stratum])
        keys.append((done > 0, turn, _hash(seed, name, stratum), found))
        before[stratum] = done + len(found)
    turns = np.zeros(len(names[0]), dtype=np.intp)
    for number, (*_, found) in enumerate(sorted(keys)):
        turns[found] = number
    return turns


def _hash(*parts: object) -> bytes:
    text = "\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()
