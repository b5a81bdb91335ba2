#!/usr/bin/env bash
# scipy 1.17.1, minimize(method="L-BFGS-B"): a negative log-likelihood that is infinite outside of its
# parameter space ends the search at its start, and the result says success.
#
# The autocorrelation of 40 AR(1) series of 10 visits, from 0.3. The first trial step leaves (-1, 1),
# where the function is inf. One would expect the line search to shorten the step, as that of
# method="BFGS" does, or the result to say that it failed. Seen: "CONVERGENCE: RELATIVE REDUCTION OF
# F", success True, the estimate still 0.3 with a gradient of -161, with the analytic gradient and
# without; BFGS finds 0.813. So does L-BFGS-B where a finite value takes the place of inf that is
# moderately larger than that of the start (by 1e3); 1e300 does not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q --disable-pip-version-check install numpy==2.4.6 scipy==1.17.1 >/dev/null 2>&1
cat > "$work/try.py" <<'PY'
import warnings

import numpy as np
import scipy
from scipy import optimize

warnings.simplefilter("ignore")
r = np.random.default_rng(1)
y = r.normal(size=(40, 10))
for j in range(1, 10):
    y[:, j] = 0.8 * y[:, j - 1] + 0.6 * y[:, j]


def minus_loglik(x, outside):
    (rho,) = x
    if not -1 < rho < 1:
        return outside
    e, v = y[:, 1:] - rho * y[:, :-1], 1 - rho**2
    return 0.5 * ((y[:, 0] ** 2).sum() + (e**2).sum() / v + e.size * np.log(v))


def slope(x, outside):
    (rho,) = x
    if not -1 < rho < 1:
        return np.zeros(1)
    e, v = y[:, 1:] - rho * y[:, :-1], 1 - rho**2
    return np.array([-(e * y[:, :-1]).sum() / v + rho * (e**2).sum() / v**2 - e.size * rho / v])


print("scipy", scipy.__version__)
start = np.array([0.3])
found = {}
for name, method, jac, outside in [
    ("differences, inf", "L-BFGS-B", None, np.inf),
    ("gradient, inf", "L-BFGS-B", slope, np.inf),
    ("gradient, 1e300", "L-BFGS-B", slope, 1e300),
    ("gradient, start + 1e3", "L-BFGS-B", slope, minus_loglik(start, 0) + 1e3),
    ("BFGS, inf", "BFGS", slope, np.inf),
]:
    one = optimize.minimize(minus_loglik, start, args=(outside,), jac=jac, method=method)
    print(f"{name}: {one.x[0]:.4f}, gradient {one.jac[0]:.4f}, success {one.success}, {one.message}")
    found[name] = one
for name in ("differences, inf", "gradient, inf", "gradient, 1e300"):
    assert found[name].success, "the search now says that it did not converge"
    assert found[name].x[0] == 0.3, "the search now leaves its start"
    assert abs(found[name].jac[0]) > 100
for name in ("gradient, start + 1e3", "BFGS, inf"):
    assert abs(found[name].jac[0]) < 1e-2, "the maximum is no longer found"
PY
"$work/venv/bin/python" "$work/try.py"
