"""Gaussian models of rows that are not in memory: `python benchmarks/large.py --subjects 5000000`.

    python benchmarks/large.py --subjects 500000
    python benchmarks/large.py --subjects 5000000 --folder /data

Simulates visits of a registry, some 20 of each subject, into a parquet file: calendar by calendar,
so that the rows of a subject are spread over the whole file. A process of its own fits the model to
the file and tells its wall and processor time and its largest resident memory (VmHWM); another one
has DuckDB read the same columns once. Of the first subjects the fit is compared with that to the
same rows in memory. The file is deleted. Needs the extra ``large``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from stored import RESULTS, keep

FORMULAS = {
    "line": "y ~ time + age + sex + (time | id)",
    "spline": "y ~ ns(time, 3) + age + sex + (time | id)",
}
VISITS, SEEN = 30, 2 / 3
"""Visits of the calendar, and the probability that a subject has one."""

CHUNK = 250_000
"""Subjects simulated at once."""

TRUTH = {"(Intercept)": 5.0, "time": 0.3, "age": 0.02, "sexm": 0.5}
SPREAD = {"sd_(Intercept)|id": 1.2, "sd_time|id": 0.4, "sigma": 0.8}
SUBSET = 20_000
"""Subjects whose rows are fitted in memory, too."""

RUN = """
import json, resource, sys, time
start = time.perf_counter()
{work}
used = resource.getrusage(resource.RUSAGE_SELF)
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
found["seconds"] = time.perf_counter() - start
found["processor"] = used.ru_utime + used.ru_stime
found["peak"] = int(status["VmHWM"].split()[0]) / 2**20
print(json.dumps(found))
"""
FIT = """
import dgmm
start = time.perf_counter()
fit = dgmm.mixed_model(sys.argv[2], sys.argv[1])
found = {"rows": fit.nobs(), "loglik": float(fit.loglik()), "fixef": fit.fixef().to_dict(),
         "se": fit.std_errors().to_dict(), "sd": fit.var_corr()["sdcor"].to_dict()}
"""
SCAN = """
import duckdb
duckdb.sql("SET threads = 2")
start = time.perf_counter()
rows = duckdb.read_parquet(sys.argv[1]).aggregate(
    "count(*), sum(id), sum(time), sum(age), count(sex), sum(y)").fetchall()
found = {"rows": rows[0][0]}
"""
GROUP = """
import duckdb
duckdb.sql("SET threads = 2; SET memory_limit = '4GB'")
start = time.perf_counter()
rows = duckdb.read_parquet(sys.argv[1]).aggregate(
    "id, sum(time) AS a, sum(time * time) AS b, sum(y) AS c, sum(time * y) AS d", "id"
).aggregate("count(*), sum(a), sum(b), sum(c), sum(d)").fetchall()
found = {"rows": rows[0][0]}
"""


def columns(first: int, size: int, visit: int) -> dict[str, np.ndarray]:
    """The rows of one visit of some subjects."""
    of_subject = np.random.default_rng([first, 1])
    b = of_subject.normal(size=(size, 2)) * (
        SPREAD["sd_(Intercept)|id"],
        SPREAD["sd_time|id"],
    )
    age, male = of_subject.uniform(40, 70, size), of_subject.random(size) < 0.5
    rng = np.random.default_rng([first, 2, visit])
    there = rng.random(size) < SEEN
    time_ = visit / 4 + rng.uniform(0, 0.2, size)
    mean = TRUTH["(Intercept)"] + TRUTH["time"] * time_ + TRUTH["age"] * age + TRUTH["sexm"] * male
    y = mean + b[:, 0] + b[:, 1] * time_ + rng.normal(size=size) * SPREAD["sigma"]
    every = {
        "id": np.arange(first, first + size),
        "time": time_,
        "age": age,
        "sex": np.where(male, "m", "f"),
        "y": y,
    }
    return {name: values[there] for name, values in every.items()}


def parts(subjects: int) -> Iterator[dict[str, np.ndarray]]:
    """All rows, visit by visit."""
    for visit in range(VISITS):
        for first in range(0, subjects, CHUNK):
            yield columns(first, min(CHUNK, subjects - first), visit)


def write(path: Path, subjects: int) -> None:
    """The rows as a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for part in parts(subjects):
        table = pa.table(part)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    assert writer is not None
    writer.close()


def measured(work: str, *arguments: str) -> dict:
    """What a process of its own finds, with its time and its memory."""
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(work=work), *arguments],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def differences(folder: Path, formula: str) -> dict[str, float]:
    """Fits to the first subjects, from a file and in memory: how far they are apart."""
    import pandas as pd

    import dgmm

    frame = pd.concat([pd.DataFrame(part) for part in parts(SUBSET)], ignore_index=True)
    frame.to_parquet(folder / "subset.parquet")
    one = dgmm.mixed_model(formula, frame)
    two = dgmm.mixed_model(formula, folder / "subset.parquet")
    size = one.std_errors()
    sd = one.var_corr()["sdcor"], two.var_corr()["sdcor"]
    return {
        "subset": float(len(frame)),
        "apart_loglik": abs(float(two.loglik()) / float(one.loglik()) - 1),
        "apart_fixef": float(((two.fixef() - one.fixef()).abs() / size).max()),
        "apart_se": float((two.std_errors() / size - 1).abs().max()),
        "apart_sd": float((sd[1] - sd[0]).abs().max()),
    }


def off(found: dict) -> float:
    """The largest distance of a coefficient of the line from its truth, in standard errors."""
    return max(
        abs(found["fixef"][name] - value) / found["se"][name] for name, value in TRUTH.items()
    )


def main() -> None:
    """Read the command line; a row per model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--subjects", type=int, default=500_000)
    parser.add_argument("--models", nargs="*", default=list(FORMULAS), choices=list(FORMULAS))
    parser.add_argument("--folder", help="for the file, by default that of temporary files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        path, begun = Path(name) / "visits.parquet", time.perf_counter()
        write(path, options.subjects)
        print(f"simulated in {time.perf_counter() - begun:.0f} s", flush=True)
        scan, group = measured(SCAN, str(path)), measured(GROUP, str(path))
        for model in options.models:
            found = measured(FIT, str(path), FORMULAS[model])
            row = {
                "model": model,
                "formula": FORMULAS[model],
                "subjects": options.subjects,
                "rows": found["rows"],
                "gigabytes": path.stat().st_size / 1e9,
                "seconds": found["seconds"],
                "processor": found["processor"],
                "peak": found["peak"],
                "scan_seconds": scan["seconds"],
                "scan_processor": scan["processor"],
                "group_seconds": group["seconds"],
                "group_processor": group["processor"],
                "off": off(found) if model == "line" else np.nan,
                "loglik": found["loglik"],
                **differences(Path(name), FORMULAS[model]),
            }
            print(row, flush=True)
            keep(RESULTS / "large.csv", row, ["model", "subjects"])


if __name__ == "__main__":
    main()
