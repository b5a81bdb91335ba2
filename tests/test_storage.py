"""Saved fits: the same in a fresh process, tampered files refused, nothing executed."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import data
from safetensors.torch import save_file

import dgmm
from dgmm import Fit, load
from dgmm.runtime.checkpoint import Checkpoint, Saved
from dgmm.runtime.tensor_file import read_tensors, write_tensors
from dgmm.storage import FIT

FRESH = """
import sys
import dgmm
for path, name in zip(sys.argv[1::2], sys.argv[2::2]):
    fit = dgmm.load(path)
    new = dgmm.datasets.load(name).head(30)
    fit.predict(new).to_json(path + ".known", double_precision=15)
    group = fit.memory.groups[0]
    fit.predict(new.assign(**{group: "somebody"}), interval="confidence").to_json(
        path + ".new", double_precision=15
    )
    fit.simulate(1, seed=4).to_json(path + ".draws", double_precision=15)
    print(fit.summary())
"""


def frame_of(fit: Fit) -> str:
    return "cbpp" if "herd" in fit.formula else "sleepstudy"


def content(path: Path) -> tuple[str, dict[str, Any]]:
    """JSON text and tensors of a saved fit."""
    tensors, header = read_tensors(path, FIT)
    return json.dumps(header), tensors


def rewrite(path: Path, text: str, tensors: dict[str, Any]) -> None:
    """A file whose checksum is right: all that an attacker has to do."""
    write_tensors(path, FIT, tensors, json.loads(text))


# -- round trip ------------------------------------------------------------------------------------


def test_a_fresh_process_finds_the_same_fits(
    sleepstudy: Fit, cbpp: Fit, deep: Fit, tmp_path: Path
) -> None:
    """An exact, a quadrature and a deep fit: their reports, predictions and draws."""
    fits = {tmp_path / f"{i}.dgmm": fit for i, fit in enumerate((sleepstudy, cbpp, deep))}
    arguments = []
    for path, fit in fits.items():
        fit.save(path)
        arguments += [str(path), frame_of(fit)]
    root = str(Path(dgmm.__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", FRESH, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"{fit.summary()}\n" for fit in fits.values())
    for path, fit in fits.items():
        new = data(frame_of(fit)).head(30)
        fresh = new.assign(**{fit.memory.groups[0]: "somebody"})
        for suffix, expected in (
            ("known", fit.predict(new)),
            ("new", fit.predict(fresh, interval="confidence")),
            ("draws", fit.simulate(1, seed=4)),
        ):
            found = pd.read_json(f"{path}.{suffix}", precise_float=True)
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_every_method_agrees_after_loading(any_fit: Fit, tmp_path: Path) -> None:
    path = tmp_path / "fit.dgmm"
    any_fit.save(path)
    fit = load(path)
    assert fit.loglik() == any_fit.loglik()
    assert fit.call == any_fit.call
    assert fit.versions == any_fit.versions
    assert fit.messages == any_fit.messages
    pd.testing.assert_series_equal(fit.fixef(), any_fit.fixef(), check_exact=True)
    pd.testing.assert_frame_equal(fit.vcov(), any_fit.vcov(), rtol=1e-12)
    pd.testing.assert_frame_equal(fit.var_corr(), any_fit.var_corr(), rtol=1e-10)
    pd.testing.assert_frame_equal(fit.confint(), any_fit.confint(), rtol=1e-10)
    pd.testing.assert_series_equal(fit.fitted(), any_fit.fitted(), rtol=1e-12)
    pd.testing.assert_series_equal(fit.residuals(), any_fit.residuals(), rtol=1e-9, atol=1e-12)
    pd.testing.assert_frame_equal(fit.ranef(), any_fit.ranef(), rtol=1e-9, check_index_type=False)


def test_a_loaded_fit_can_be_updated_and_saved_again(sleepstudy: Fit, tmp_path: Path) -> None:
    sleepstudy.save(tmp_path / "one")
    fit = load(tmp_path / "one")
    with pytest.raises(ValueError, match="needs data=: this fit was read from a file"):
        fit.update(method="reml")
    reml = fit.update(data=data("sleepstudy"), method="reml")
    assert float(reml.loglik()) == pytest.approx(-871.814136, abs=1e-5)
    fit.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_call_comes_back_as_it_was(tmp_path: Path) -> None:
    """Arrays of weights and offsets, a family with options, bounds and control."""
    frame, rng = data("sleepstudy"), np.random.default_rng(4)
    frame["share"] = frame["Reaction"] / 500
    options: dict[str, Any] = {"family": "beta", "bounds": (0.0, 1.0), "control": {"points": 5}}
    arrays = {"weights": rng.uniform(1, 2, 180), "offset": rng.normal(size=180) / 10}
    for more in (options, {"family": dgmm.families.find("beta", bounds=(0.0, 1.0))}):
        fit = dgmm.mixed_model("share ~ Days + (1 | Subject)", frame, verbose=0, **arrays, **more)
        fit.save(tmp_path / "fit")
        again = load(tmp_path / "fit")
        assert again.call == fit.call
        assert again.call != fit.call.changed({"weights": arrays["weights"][::-1]})
        refitted = again.update(data=frame)
        assert float(refitted.loglik()) == pytest.approx(float(fit.loglik()), abs=1e-9)
        with pytest.raises(ValueError, match="weights= was one value per row"):
            again.update(data=frame[::-1])


def test_row_labels_and_ids_keep_their_types(tmp_path: Path) -> None:
    frame = data("sleepstudy")
    when = pd.date_range("2020-01-01", periods=180, freq="h")
    for index in (pd.Index(np.arange(180) + 0.5), pd.Index([f"r{j}" for j in range(180)]), when):
        one = frame.set_axis(index).assign(Subject=frame["Subject"].astype(int).to_numpy())
        fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", one, verbose=0)
        fit.save(tmp_path / "fit")
        again = load(tmp_path / "fit")
        labels = [str(one) for one in index] if index is when else list(index)
        assert list(again.fitted().index) == labels  # dates come back as text
        assert list(again.ranef().index) == list(fit.ranef().index)
        np.testing.assert_allclose(again.predict(one)["fit"], fit.fitted(), rtol=1e-12)


# -- what is refused -------------------------------------------------------------------------------


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*nothing\.dgmm"):
        load(tmp_path / "nothing.dgmm")


def test_a_file_of_another_kind(tmp_path: Path, sleepstudy: Fit) -> None:
    path = tmp_path / "fit.dgmm"
    sleepstudy.save(path)
    text, tensors = content(path)
    other = dataclasses.replace(FIT, form="dgmm fit, format 99")
    write_tensors(path, other, tensors, json.loads(text))
    with pytest.raises(ValueError, match=r"not a file written by fit.save\(\) of this version"):
        load(path)
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"fit.save\(\): it is a safetensors file of another"):
        load(path)


def test_a_file_of_an_older_format_is_refused_with_its_version(tmp_path: Path) -> None:
    """Formats 1 and 2 had the JSON text in the header of the file, and no checksum."""
    path = tmp_path / "fit.dgmm"
    for older in ("dgmm fit, format 1", "dgmm fit, format 2"):
        versions = {"dict": [["python", "3.11.7"], ["dgmm", "0.1.0"]]}
        fit = {"class": "Fit", "fields": {"versions": versions, "labels": {"tensor": "t0"}}}
        text = json.dumps({"format": older, "fit": fit})
        save_file({"t0": torch.zeros(2)}, path, metadata={"dgmm": text})
        said = f"'{older}', written by dgmm 0\\.1\\.0, and this version reads .*format 3"
        with pytest.raises(ValueError, match=said):
            load(path)


def test_what_is_no_path_is_refused_in_words(sleepstudy: Fit) -> None:
    for function, name in (
        (load, "load"),
        (sleepstudy.save, "save"),
        (lambda path: sleepstudy.bootstrap(2, path=path, seed=1), "bootstrap"),
    ):
        with pytest.raises(TypeError, match=rf"{name}\(\) needs the path of a file, not 3"):
            function(3)


def test_a_checkpoint_is_not_a_fit(tmp_path: Path) -> None:
    path = tmp_path / "fit.ckpt"
    Checkpoint(path, {}).write(0, Saved({}, {}))
    with pytest.raises(ValueError, match="it has 'dgmm checkpoint, format"):
        load(path)


def test_changed_bytes_are_noticed_wherever_they_are(tmp_path: Path, sleepstudy: Fit) -> None:
    """A bit of every 150th byte; of a small file tests/test_tensor_file.py changes every byte."""
    path = tmp_path / "fit.dgmm"
    sleepstudy.save(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 150):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="fit.dgmm' is (damaged|not a file written by fit.s)"):
            load(path)


def test_an_unknown_class_is_not_built(tmp_path: Path, sleepstudy: Fit) -> None:
    path = tmp_path / "fit.dgmm"
    sleepstudy.save(path)
    text, tensors = content(path)
    for name in ("Popen", "os.system", "subprocess.Popen", "Fit.__class__"):
        rewrite(path, text.replace('"class": "Model"', f'"class": "{name}"'), tensors)
        with pytest.raises(ValueError, match=f"unknown part '{name}'"):
            load(path)


def test_an_unknown_marker_is_refused_in_words(tmp_path: Path, sleepstudy: Fit) -> None:
    path = tmp_path / "fit.dgmm"
    sleepstudy.save(path)
    text, tensors = content(path)
    for marker in ("decode", "record", "_class__", "code"):
        rewrite(path, text.replace('{"array":', f'{{"{marker}":', 1), tensors)
        with pytest.raises(ValueError, match=marker):
            load(path)


def test_a_fit_that_cannot_be_built_is_refused_in_words(tmp_path: Path, sleepstudy: Fit) -> None:
    path = tmp_path / "fit.dgmm"
    sleepstudy.save(path)
    text, tensors = content(path)
    for old, new in (
        ('"fields"', '"feilds"'),
        ('": "t0"}', '": "t999"}'),
        ('": "t1"}', '": null}'),
        (text, "[3]"),
        (text, "3"),
    ):
        assert old in text
        rewrite(path, text.replace(old, new, 1), tensors)
        with pytest.raises(ValueError, match="fit.dgmm' (holds a fit that|does not hold a fit)"):
            load(path)


@pytest.mark.parametrize(
    "harm",
    [
        "Days.__class__",
        "().__class__.__base__.__subclasses__()",
        "__import__('os').getcwd()",
        "Days[0]",
        "(lambda: Days)()",
        "open('x')",
    ],
)
def test_a_formula_that_would_run_code_is_refused(
    harm: str, tmp_path: Path, sleepstudy: Fit
) -> None:
    path = tmp_path / "fit.dgmm"
    sleepstudy.save(path)
    text, tensors = content(path)
    changed = text.replace("Reaction ~ Days + ", f"Reaction ~ {harm} + ")
    assert changed != text
    rewrite(path, changed, tensors)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words depend on the expression
        load(path).predict(data("sleepstudy"))
    assert harm.split("(")[0].split(".")[0] in str(caught.value)


def test_no_pickle_anywhere(tmp_path: Path, any_fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    def never(*args: Any, **options: Any) -> Any:
        raise AssertionError("pickle was used")

    for owner, names in (
        (pickle, ("load", "loads", "dump", "dumps", "Unpickler", "Pickler")),
        (torch, ("load", "save")),
    ):
        for name in names:
            monkeypatch.setattr(owner, name, never)
    path = tmp_path / "fit.dgmm"
    any_fit.save(path)
    assert load(path).loglik() == any_fit.loglik()
    # an eight byte length, then JSON: the layout of safetensors, which holds numbers only
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    assert max(ends) == len(raw) - 8 - size
    # a pickle begins with 0x80 and its protocol, a zip file with PK
    assert not (raw[0] == 0x80 and raw[1] <= 5)
    assert not raw.startswith(b"PK")


def test_labels_of_rows_come_back_as_pairs_and_numbers(tmp_path: Path) -> None:
    """Row labels are one array: numbers as they are, pairs as objects."""
    sleep = dgmm.datasets.load("sleepstudy")
    paired = sleep.set_index([sleep["Subject"].astype(str), sleep["Days"]])
    for frame in (sleep.set_index(np.arange(len(sleep)) + 7), paired):
        fit = dgmm.mixed_model("Reaction ~ Days + (1 | Subject)", frame, verbose=0)
        fit.save(tmp_path / "labels.dgmm")
        again = dgmm.load(tmp_path / "labels.dgmm")
        assert again.memory.labels.equals(fit.memory.labels)
        assert again.fitted().index.equals(fit.fitted().index)
        assert fit.fitted().index.tolist() == frame.index.tolist()
