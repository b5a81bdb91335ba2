"""Open folders: a word names a file, a wrong word is answered in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dgmm.encoders
import dgmm.families
import dgmm.latent
from dgmm.encoders import Encoder
from dgmm.families import Family
from dgmm.latent import Latent
from dgmm.runtime.registry import lookup, members, suggestion

FOLDERS = [
    (dgmm.families, Family, {"bernoulli", "binomial", "gaussian", "poisson"}),
    (dgmm.encoders, Encoder, {"dense", "recurrent", "sites"}),
    (dgmm.latent, Latent, {"dnn", "normal"}),
]


@pytest.mark.parametrize(("package", "base", "expected"), FOLDERS)
def test_members_are_the_final_classes_of_the_folder(
    package: object, base: type, expected: set[str]
) -> None:
    found = members(package.__name__, base)  # type: ignore[attr-defined]
    assert expected <= set(found)
    for name, thing in found.items():
        assert issubclass(thing, base)
        assert thing.name == name


@pytest.mark.parametrize(("package", "base", "expected"), FOLDERS)
def test_every_member_has_a_file_of_its_own(
    package: object, base: type, expected: set[str]
) -> None:
    found = members(package.__name__, base)  # type: ignore[attr-defined]
    modules = [thing.__module__ for thing in found.values()]
    assert len(set(modules)) == len(modules)
    folder = Path(package.__path__[0])  # type: ignore[attr-defined]
    for module in modules:
        assert (folder / f"{module.rpartition('.')[2]}.py").exists()


def test_lookup_returns_the_class() -> None:
    assert lookup("dgmm.families", Family, "poisson", "family").name == "poisson"


def test_unknown_word_names_the_nearest_and_lists_all() -> None:
    message = "unknown family 'poison'; did you mean 'poisson'? Available: bernoulli, beta, "
    with pytest.raises(ValueError, match=re.escape(message)):
        lookup("dgmm.families", Family, "poison", "family")


def test_word_without_neighbour_gets_no_suggestion() -> None:
    assert suggestion("zzzz", ["gaussian", "poisson"]) == "."
    with pytest.raises(ValueError, match="Available: dense, recurrent, sites") as caught:
        lookup("dgmm.encoders", Encoder, "zzzz", "encoder")
    assert "did you mean" not in str(caught.value)


def test_suggestion_is_the_nearest_word() -> None:
    assert suggestion("gausian", ["poisson", "gaussian"]) == "; did you mean 'gaussian'?"
