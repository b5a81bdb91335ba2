"""The battery passes every family of the folder, and names what is wrong with a broken one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from test_families import CASES, OPTIONS, WRAPPED

from dgmm import check_family
from dgmm.checking import FamilyError
from dgmm.families import OwnFamily, available, find
from dgmm.families.gamma import Gamma
from dgmm.families.hurdle import Hurdle
from dgmm.families.negative_binomial import NegativeBinomial


def options(name: str) -> dict:
    return {} if name == "cumulative" else OPTIONS.get(name, {})


@pytest.mark.parametrize("case", CASES)
def test_every_family_and_link_by_itself(case: tuple[str, str]) -> None:
    check_family(find(*case, **options(case[0])), fit=False)


@pytest.mark.parametrize("name", [*available(), *WRAPPED])
def test_every_family_in_fits(name: str) -> None:
    check_family(find(name, **options(name)))


class Rayleigh(OwnFamily):
    """The example of OwnFamily."""

    name = "rayleigh"
    links = ("log",)
    support = "positive"

    def log_density(self, data: Any, eta: Any, extra: Any) -> Any:
        z = data.y * torch.exp(-eta)
        return data.weights * (torch.log(z) - eta - 0.5 * z**2)

    def mean(self, eta: Any, extra: Any) -> Any:
        return torch.exp(eta) * math.sqrt(math.pi / 2)

    def predictor(self, mean: Any, extra: Any) -> Any:
        return torch.log(mean / math.sqrt(math.pi / 2))


def test_a_family_of_ones_own_passes() -> None:
    check_family(Rayleigh(), y=[0.3, 0.8, 1.2, 1.9, 3.1])


class Forgetful(Rayleigh):
    name = "forgetful"
    mean = OwnFamily.mean


def test_its_words_say_what_was_found() -> None:
    with pytest.raises(FamilyError, match="family 'forgetful' does not pass 'mean': it is") as one:
        check_family(Forgetful())
    assert one.value.check == "mean"
    mean = math.exp(-1.6)
    assert f"[{mean:.5g}," in str(one.value)
    assert f"by the density [{mean * math.sqrt(math.pi / 2):.5g}," in str(one.value)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        (3, {}, "checks a word or a Family, not 3"),
        (Rayleigh, {}, "checks a word or a Family, not <class"),
        ("poisson", {"y": ["a"]}, r"y= is a list of numbers, not \['a'\]"),
        ("poisson", {"eta": [0.1]}, r"eta= is a list of 3 numbers, not \[0.1\]"),
        ("gamma", {"extra": [1.0, 2.0]}, r"extra= is a list of 1 numbers, not \[1.0, 2.0\]"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_words(
    family: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        check_family(family, fit=False, **options)


def test_a_family_inside_a_function_cannot_be_pickled() -> None:
    class Local(Rayleigh):
        name = "local"

    with pytest.raises(FamilyError, match="'copies': it ends in .*pickle"):
        check_family(Local())


class Counts(NegativeBinomial):
    name = "counts"

    def derivatives(self, data: Any, eta: Any, extra: Any, order: int = 3) -> Any:
        return None


def density(change: Any) -> Any:
    return lambda self, data, eta, extra: change(
        NegativeBinomial.log_density(self, data, eta, extra), data, eta, extra
    )


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("a constant is left out", {"log_density": density(lambda f, *_: f - 0.1)}, "total"),
    (
        "weights are left out",
        {"log_density": density(lambda f, data, *_: f / data.weights)},
        "weights",
    ),
    ("rows are mixed", {"log_density": density(lambda f, *_: f.mean(-1, keepdim=True))}, "rows"),
    (
        "extra by row is summed",
        {"log_density": density(lambda f, data, eta, extra: f + extra.sum() - extra[0])},
        "rows",
    ),
    ("another variance", {"variance": lambda self, eta, data, extra: torch.exp(eta)}, "variance"),
    ("another slope", {"mean_slope": lambda self, eta, extra: 2 * eta.exp()}, "mean_slope"),
    ("another inverse", {"predictor": lambda self, mean, extra: mean}, "predictor"),
    (
        "other draws",
        {"simulate": lambda self, eta, *rest: torch.poisson(eta.exp(), generator=rest[-1])},
        "draws",
    ),
    (
        "draws by no generator",
        {"simulate": lambda self, eta, *rest: torch.poisson(eta.exp())},
        "draws",
    ),
    ("no start", {"start_extra": lambda self, data, mu: torch.full((1,), math.nan)}, "starts"),
    (
        "a start outside of the link",
        {"start_mean": lambda self, data: data.y},
        "starts",
    ),
    ("no weights", {"information": lambda self, data, eta, extra: -eta.square()}, "scoring"),
    ("two names", {"natural_names": lambda self: ("size", "other")}, "reported"),
    ("options forgotten", {"options": lambda self: {"link": "sqrt"}}, "copies"),
]


@pytest.mark.parametrize(("what", "methods", "check"), BROKEN)
def test_a_broken_family_is_found_out(what: str, methods: dict, check: str) -> None:
    broken = type("Broken", (Counts,), {"name": "counts", **methods})
    globals()["Broken"] = broken  # so that it can be pickled
    broken.__module__ = __name__
    extra = [0.9] if check == "starts" else None
    with pytest.raises(FamilyError) as caught:
        check_family(broken(), extra=extra, fit=False)
    assert caught.value.check == check, what


def test_a_wrong_closed_derivative_is_found_out() -> None:
    class Steep(Gamma):
        name = "steep"

        def derivatives(self, data: Any, eta: Any, extra: Any, order: int = 3) -> Any:
            found = super().derivatives(data, eta, extra, order)
            return found and found._replace(third=2 * found.third)

    globals()["Steep"] = Steep
    Steep.__qualname__ = "Steep"
    with pytest.raises(FamilyError, match="'derivatives, order 3'"):
        check_family(Steep(), fit=False)


def test_foreign_exceptions_are_named() -> None:
    class Rude(Rayleigh):
        name = "rude"

        def read(self, y: Any, trials: Any, weights: Any) -> Any:
            if (y < 0).any():
                raise ZeroDivisionError("division")
            return super().read(y, trials, weights)

    globals()["Rude"] = Rude
    Rude.__qualname__ = "Rude"
    with pytest.raises(FamilyError, match="'refusals': y = -1 ends in ZeroDivisionError"):
        check_family(Rude(), fit=False)


def test_a_hurdle_without_positive_outcomes_starts() -> None:
    family = find("hurdle_gamma")
    assert isinstance(family, Hurdle)
    check_family(family, y=[0.0, 0.0, 1.0, 2.0], fit=False)
