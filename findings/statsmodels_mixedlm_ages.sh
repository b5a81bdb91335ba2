#!/usr/bin/env bash
# statsmodels 0.15.0, MixedLM with a random slope: ages 10 to 15 in place of years since the age of
# 10 change the maximum that is found, and the fit says that it converged.
#
# y ~ t + (1 + t | id) with a free 2 x 2 covariance is one model wherever time begins: shifting t
# changes the intercept and the covariance of the effects, not the slope, its standard error, the
# residual variance or the restricted log-likelihood. Seen: years 0 to 5 give -303.44 and 0.0967 for
# the standard error of the slope; ages 10 to 15 end at -311.53 and 0.0668, with a third more
# residual variance, and `converged` is True (after a warning that another optimiser was tried).
# The data are those of 30 children with 6 visits; centre time before the fit.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q --disable-pip-version-check install \
    statsmodels==0.15.0 numpy==2.4.6 scipy==1.17.1 pandas==3.1.1 >/dev/null 2>&1
cat > "$work/try.py" <<'PY'
import warnings

import numpy as np
import pandas as pd
import statsmodels
import statsmodels.formula.api as smf

warnings.simplefilter("ignore")
r = np.random.default_rng(3)
id, t = np.repeat(np.arange(30), 6), np.tile(np.arange(6.0), 30)
b = r.normal(size=(30, 2)) @ np.array([[1.0, 0.3], [0.0, 0.4]])
y = 1 + 0.3 * t + b[id, 0] + b[id, 1] * t + 0.9 * r.normal(size=180)
print("statsmodels", statsmodels.__version__)
found = []
for first in (0, 10):
    data = pd.DataFrame({"y": y, "t": t + first, "id": id})
    fit = smf.mixedlm("y ~ t", data, groups="id", re_formula="~t").fit()
    print(f"t from {first}: slope {fit.params['t']:.4f} (se {fit.bse['t']:.4f}), residual variance "
          f"{fit.scale:.3f}, log-likelihood {fit.llf:.2f}, converged {fit.converged}")
    found.append(fit)
near, far = found
assert near.llf - far.llf > 5, "the origin of time no longer matters"
assert near.bse["t"] > 1.2 * far.bse["t"], "the standard errors agree now"
assert far.converged, "the fit now says that it did not converge"
PY
"$work/venv/bin/python" "$work/try.py"
