"""How models in the shadow answer beside those that serve, of the same images."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Final

from dicom_node.outbox import Outbox
from dicom_node.records import Result
from dicom_node.results.said import Said, said_in

#: So many images are looked at, the last ones that a model in the shadow spoke of.
LOOKED_AT: Final = 200
#: Scores that differ by less say the same.
SAME_SCORE: Final = 0.5
#: What two models say of one image.
_Pair = tuple[Said, Said]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models on the same images; what does not apply is None."""

    #: name and version
    shadow: tuple[str, str]
    serving: tuple[str, str]
    images: int
    #: view quality: means, the mean of the differences, of their sizes, and how many are small
    shadow_score: float | None = None
    serving_score: float | None = None
    difference: float | None = None
    size_of_difference: float | None = None
    same_score: int | None = None
    #: segmentation: in how many images who found anything
    both_found: int | None = None
    shadow_found: int | None = None
    serving_found: int | None = None
    none_found: int | None = None


def compared(outbox: Outbox, most: int = LOOKED_AT) -> list[Comparison]:
    """Compare the models in the shadow with those that serve, by name and version.

    Parameters
    ----------
    outbox : Outbox
        Keeps what both said.
    most : int
        How many of the last results of the shadow are looked at.
    """
    pairs: dict[tuple[tuple[str, str], tuple[str, str]], list[_Pair]] = defaultdict(list)
    for in_shadow, serving in outbox.shadow_pairs(most):
        for one, other in _alike(_said(in_shadow), _said(serving)):
            pairs[(one.name, one.version), (other.name, other.version)].append((one, other))
    return [_compared(*key, found) for key, found in sorted(pairs.items())]


def _alike(in_shadow: Iterable[Said], serving: Iterable[Said]) -> Iterator[_Pair]:
    """Yield those that answer the same question."""
    others = list(serving)
    for one in in_shadow:
        for other in others:
            both_score = one.score is not None and other.score is not None
            if both_score or (one.found is not None and other.found is not None):
                yield one, other


def _said(result: Result) -> tuple[Said, ...]:
    return _read(result.path)


@lru_cache(maxsize=4 * LOOKED_AT)
def _read(path: Path) -> tuple[Said, ...]:
    # results are written once and never changed
    return tuple(said_in(path))


def _compared(shadow: tuple[str, str], serving: tuple[str, str], pairs: list[_Pair]) -> Comparison:
    scores = [(one.score, other.score) for one, other in pairs]
    both = [(a, b) for a, b in scores if a is not None and b is not None]
    if both:
        differences = [a - b for a, b in both]
        return Comparison(
            shadow=shadow,
            serving=serving,
            images=len(both),
            shadow_score=fmean(a for a, _ in both),
            serving_score=fmean(b for _, b in both),
            difference=fmean(differences),
            size_of_difference=fmean(map(abs, differences)),
            same_score=sum(abs(one) < SAME_SCORE for one in differences),
        )
    found = [(bool(one.found), bool(other.found)) for one, other in pairs]
    return Comparison(
        shadow=shadow,
        serving=serving,
        images=len(found),
        both_found=found.count((True, True)),
        shadow_found=found.count((True, False)),
        serving_found=found.count((False, True)),
        none_found=found.count((False, False)),
    )
