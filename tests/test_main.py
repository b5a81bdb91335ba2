"""The command line."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dgmm
from dgmm.command import main

SLEEP = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fits") / "sleep.dgmm"
    assert main(["fit", SLEEP, "sleepstudy", "--quiet", "--out", str(path)]) == 0
    return path


def test_fit_prints_the_summary_and_saves(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = dgmm.datasets.load("sleepstudy")
    fit = dgmm.mixed_model(SLEEP, data)
    for words, verbose in (([], False), (["--verbose"], True)):
        assert main(["summary", str(saved), *words]) == 0
        assert capsys.readouterr().out == f"{fit.summary(verbose=verbose)}\n"


def test_options_are_those_of_mixed_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = dgmm.datasets.load("epil").rename(columns={"subject": "id"})
    path = tmp_path / "epil.csv"
    data.to_csv(path, index=False)
    words = ["--family", "poisson", "--likelihood", "laplace", "--se", "sandwich", "--quiet"]
    assert main(["fit", "y ~ trt + (1 | id)", str(path), *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    fit = dgmm.mixed_model(
        "y ~ trt + (1 | id)", dgmm.read(path), family="poisson", likelihood="laplace", se="sandwich"
    )
    assert found["converged"] is True
    terms = pd.DataFrame(found["outcomes"]["y"]["terms"])
    assert terms["term"].tolist() == fit.tidy()["term"].tolist()
    np.testing.assert_allclose(
        terms["estimate"].astype(float), fit.tidy()["estimate"].astype(float), rtol=1e-12
    )
    assert found["outcomes"]["y"]["glance"]["logLik"] == pytest.approx(float(fit.loglik()))


def test_several_outcomes_have_families_by_commas(capsys: pytest.CaptureFixture[str]) -> None:
    formula = "mv('log(bili) ~ years + (1 |p| id)', 'ascites ~ years + (1 |p| id)')"
    data = dgmm.datasets.load("pbcseq")
    assert "ascites" in data  # the words of the formula
    assert main(["fit", formula, "pbcseq", "--family", "gaussian", "--quiet"]) == 2
    assert "years" in capsys.readouterr().err


def test_predictions_are_written_beside_their_rows(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = dgmm.datasets.load("sleepstudy")
    new, history = tmp_path / "new.csv", tmp_path / "history.csv"
    rows = data.head(10).assign(Subject="new")
    rows.tail(3).to_csv(new, index=False)
    rows.head(7).to_csv(history, index=False)
    words = ["predict", str(saved), str(new), "--history", str(history), "--interval", "prediction"]
    assert main(words) == 0
    found = pd.read_csv(io.StringIO(capsys.readouterr().out))
    fit = dgmm.load(saved)
    right = fit.predict(
        dgmm.read(new), history=dgmm.read(history), interval="prediction", type="subject"
    )
    np.testing.assert_allclose(found[right.columns], right, rtol=1e-12)
    out = tmp_path / "out.csv"
    assert main([*words, "--out", str(out)]) == 0
    assert capsys.readouterr().out == ""
    pd.testing.assert_frame_equal(pd.read_csv(out), found)


def test_warnings_are_lines_of_stderr(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new.csv"
    new.write_text("Subject,Days\n308,12\n", encoding="utf-8")
    assert main(["predict", str(saved), str(new)]) == 0
    shown = capsys.readouterr()
    assert shown.err == (
        "dgmm: `Days` of newdata lies outside of the 0 to 9 of the fit in 1 of 1 rows (12): the "
        "model is extrapolated\n"
    )
    assert shown.out.startswith("Subject,Days,fit\n308,12,")


def test_the_report_is_one_page_without_links(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.html"
    assert main(["report", str(saved), "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    assert "Linear mixed model fitted by maximum likelihood" in text
    assert "autocorrelation" in text
    assert text.count("data:image/png;base64,") == 5  # an exact fit has no trace
    assert "http" not in text
    assert main(["check", str(saved)]) == 0
    assert capsys.readouterr().out.strip() == str(dgmm.load(saved).check())


def test_a_fit_that_has_not_converged_is_written_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = dgmm.mixed_model(SLEEP, dgmm.datasets.load("sleepstudy"))
    object.__setattr__(fit.estimate, "converged", False)
    monkeypatch.setattr("dgmm.command.actions.mixed_model", lambda *_, **__: fit)
    out = tmp_path / "f.dgmm"
    assert main(["fit", SLEEP, "sleepstudy", "--out", str(out)]) == 3
    assert out.exists()
    assert "Days" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "Reaction ~ Dayz + (1 | Subject)", "sleepstudy"], "`Dayz`"),
        (["fit", SLEEP, "nothing.csv"], "there is no file nothing.csv"),
        (["fit", SLEEP, "nothing"], "neither a data set of dgmm"),
        (["fit", SLEEP, "sleepstudy", "--bounds", "1"], "--bounds takes two numbers"),
        (["summary", __file__], "Fit the model again"),
        (["datasets", "nothing"], "nothing"),
    ],
)
def test_what_cannot_work_ends_with_status_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.startswith("dgmm: ")
    assert shown.out == ""


def test_datasets_are_listed_and_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets"]) == 0
    assert "sleepstudy" in capsys.readouterr().out.split()
    assert main(["datasets", "sleepstudy"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 181
    assert main(["datasets", "sleepstudy", "--about"]) == 0
    assert "Belenky" in capsys.readouterr().out


def test_without_a_command_the_usage_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "usage: dgmm" in capsys.readouterr().err


def test_the_module_is_the_command() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "dgmm", "--version"], capture_output=True, text=True, check=True
    )
    assert found.stdout == f"dgmm {dgmm.__version__}\n"
