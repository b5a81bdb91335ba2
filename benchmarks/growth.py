"""Growth of the time of a deep fit with subjects and with visits: `python benchmarks/growth.py`.

    python benchmarks/growth.py --subjects 800 1600 3200 --visits 20 40 80

Wall time of one default fit of the sigmoid study, standard errors included, and the exponent of a
power law fitted by least squares to log time. With subjects growing there are 20 visits, with
visits growing 800 subjects (--held 800 20).
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from studies import DEEP

import dgmm
from dgmm.studies import training_frame

SUBJECTS = [800, 1600, 3200, 6400, 12800]
VISITS = [20, 40, 80, 160, 320]


def seconds(subjects: int, visits: int, control: dict[str, object]) -> float:
    """Wall time from the data frame to the fit."""
    data = training_frame(dgmm.simulate_study("sigmoid", n=(subjects, 0, 0), visits=visits))
    start = time.perf_counter()
    dgmm.mixed_model(DEEP["sigmoid"], data, verbose=0, control=control)
    return time.perf_counter() - start


def exponent(sizes: list[int], times: list[float]) -> float:
    """Slope of log time on log size."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def main() -> None:
    """Read the command line; one line per fit, one exponent per direction."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--subjects", nargs="*", type=int, default=SUBJECTS)
    parser.add_argument("--visits", nargs="*", type=int, default=VISITS)
    parser.add_argument("--epochs", type=int, help="fewer than the default, to try the script")
    parser.add_argument("--held", nargs=2, type=int, default=[800, 20], help="sizes held")
    options = parser.parse_args()
    n, visits = options.held
    control = {} if options.epochs is None else {"epochs": options.epochs}
    for what, sizes, pair in (
        ("subjects", options.subjects, lambda size: (size, visits)),
        ("visits", options.visits, lambda size: (n, size)),
    ):
        times = []
        for size in sizes:
            times.append(seconds(*pair(size), control))
            print(f"{what} {size:6d}: {times[-1]:8.1f} s", flush=True)
        if len(sizes) > 1:
            print(f"{what}: time grows with exponent {exponent(sizes, times):.2f}\n", flush=True)


if __name__ == "__main__":
    main()
