"""The study of chorales: its reading, and its scores by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import benchmark

chorales = benchmark("chorales")

SONGS = {
    "train": [[[60, 64], [60], [], [62]], [[64], [60, 64], [60]], [[62], [60], [64]]],
    "valid": [[[60], [64]]],
    "test": [[[60], [60, 64], [72]], [[], [62]]],
}


@pytest.fixture
def songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[np.ndarray]]:
    (tmp_path / chorales.FILE).write_text(json.dumps(SONGS), encoding="utf-8")
    monkeypatch.setenv("DGMM_DATA", str(tmp_path))
    found: dict[str, list[np.ndarray]] = chorales.read()
    return found


def test_the_folder_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DGMM_DATA", raising=False)
    with pytest.raises(ValueError, match="the environment variable DGMM_DATA names the folder of"):
        chorales.read()
    monkeypatch.setenv("DGMM_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="has no file jsb_chorales_quarter.json"):
        chorales.read()


def test_keys_that_sound(songs: dict[str, list[np.ndarray]]) -> None:
    assert [one.shape for one in songs["train"]] == [(4, 88), (3, 88), (3, 88)]
    first = songs["train"][0]
    assert [np.flatnonzero(row).tolist() for row in first] == [[39, 43], [39], [], [41]]
    table = chorales.frame(songs["test"])
    assert table[["id", "t"]].to_numpy().tolist() == [[0, 1], [0, 2], [0, 3], [1, 1], [1, 2]]
    assert table["k64"].tolist() == [0, 1, 0, 0, 0]


def test_tables_of_keys_by_hand(songs: dict[str, list[np.ndarray]]) -> None:
    """Ten steps, key 60 in five, 64 in four, 62 in two; a silent one has 0.5 / 11."""
    p = {60: 5.5 / 11, 64: 4.5 / 11, 62: 2.5 / 11}
    none = sum(np.log(1 - one) for one in p.values()) + 85 * np.log(10.5 / 11)

    def step(*sounding: int) -> float:
        odds = (p.get(key, 0.5 / 11) / (1 - p.get(key, 0.5 / 11)) for key in sounding)
        return float(none + sum(np.log(list(odds))))

    total = step(60) + step(60, 64) + step(72) + step() + step(62)
    assert chorales.static(songs["train"], songs["test"]) == pytest.approx(-total / 5, abs=1e-12)
    # of seven moves key 60 had sounded before four, and after two of them; of the other three two
    moved = {60: (2.5 / 4, 2.5 / 5), 64: (1.5 / 5, 1.5 / 4), 62: (1.5 / 7, 0.5 / 2)}
    total = step(60) + step(64)
    law = {key: one[1] if key == 60 else one[0] for key, one in moved.items()}
    silent = 85 * np.log(7.5 / 8)
    second = np.log(law[64]) + sum(np.log(1 - law[key]) for key in (60, 62)) + silent
    found = chorales.markov(songs["train"], songs["valid"])
    assert found == pytest.approx(-(step(60) + second) / 2, abs=1e-12)


def test_scores_of_a_recurrent_network_are_its_likelihood(
    songs: dict[str, list[np.ndarray]],
) -> None:
    """Without latent variables a bound is exact; keys never heard are added by the convention."""
    term = "vrnn(t, latent=0, hidden=2, memory='outcomes')"
    fit = chorales.fitted(term, songs["train"], {"epochs": 2}, 0)
    assert fit.names == ("k60", "k62", "k64")
    value, error = chorales.bounds(fit, songs["train"], songs["test"], 3)
    data = chorales.frame(songs["test"])[["id", "t", *fit.names]]
    others = 4 * 85 * np.log(10.5 / 11) + 84 * np.log(10.5 / 11) + np.log(0.5 / 11)
    exact = float(fit.log_score(data)["joint"].sum()) + others
    assert value == pytest.approx(-exact / 5, abs=1e-10)
    assert error < 1e-12


@pytest.mark.skipif(not os.environ.get("DGMM_DATA"), reason="DGMM_DATA names no folder of data")
def test_the_data_and_their_units() -> None:
    rolls = chorales.read()
    assert [len(rolls[part]) for part in chorales.PARTS] == [229, 76, 77]
    assert [sum(map(len, rolls[part])) for part in chorales.PARTS] == [13807, 4602, 4725]
    assert round(chorales.markov(rolls["train"], rolls["test"]), 2) == 10.47
    assert round(chorales.static(rolls["train"], rolls["test"]), 2) == 11.06
