"""Predictions of a fit: for its own rows, for new rows, for new outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dgmm.panel import Panel
from dgmm.prediction import new_rows, of_fit
from dgmm.prediction.landmarks import at_landmarks, clock_of
from dgmm.prediction.log_scores import log_scores
from dgmm.prediction.methods import through
from dgmm.prediction.new_values import calculable
from dgmm.prediction.options import Wanted
from dgmm.record import (
    Fitted,
    chains_of,
    check_rows,
    joint_information,
    parameter_information,
)

__all__ = ["fitted", "log_score", "predict", "prior_predictive", "simulate"]


def fitted(fit: Fitted, scale: str = "response") -> pd.Series:
    """E{g^-1(eta) | y} of every row kept, missing outcomes included, in the user's order.

    Missing where it is not estimable, see :meth:`predict`.
    """
    mean = of_fit.fitted(fit.estimate, scale, fit.call.seed)
    mean = np.where(fit.memory.departures.estimable, mean, np.nan)
    return fit.memory.series(mean, "fitted")


def predict(
    fit: Fitted,
    newdata: Any = None,
    *,
    type: str = "subject",
    scale: str = "response",
    history: Any = None,
    at: Any = None,
    time: str | None = None,
    interval: str | None = None,
    level: float | Sequence[float] = 0.95,
    theta: str = "estimated",
    new_groups: str = "population",
    method: str = "refined",
    draws: int = 1000,
    seed: int | None = None,
) -> pd.DataFrame:
    """Predictions for the rows of ``newdata`` (default: the rows of the fit).

    type:
        "subject"       E{h(eta) | the subject's observed outcomes}: those of the fit, or
                        those of ``history`` (past rows of the same ids, known or new), which
                        takes the place of the data of the fit for every subject. Without any
                        outcome the prior stands: the population average, with a warning
                        where an id or the history of a subject is missing
        "mean_subject"  h(mu1), the subject whose random part is zero
        "one_step"      of vrnn() and dmm(): E{h(eta) | outcomes of earlier rows alone}, by
                        particles (teacher forced). Rows after the last outcome of ``history``
                        run freely under both this and "subject"
        "marginal"      E g^-1(eta) over subjects; on the link scale the eta of this mean
        "prob"          the probability of every category of an ordered outcome given the
                        subject's outcomes: type="subject" on the scale "categories"
    scale: "response" (h = g^-1), "link" (h the identity) or, for ordered outcomes, "categories"
        (the probability of every category, a column each by its name).
    interval: "confidence" for the expected value, of a subject given its outcomes; "prediction" for
        a new outcome (adds the family's own variation; for binomial outcomes of ``newdata``, one
        trial): of the subject, of the mean subject, or of anyone in the population. The error of
        theta is in all of them: in E(eta | y) that of all parameters, network weights too, in
        var(eta | y) and in the family's variation that of the reported ones, so that the ends are
        those of a t rather than a normal distribution. Held are parameters at a boundary, network
        weights in var(eta | y), and the penalty of networks. Several starts add their spread. The
        confidence of the mean subject and of the population is normal, as Wald tests are.
    level: probability of the interval. Of several, ``[0.5, 0.95]``, the columns of the ends are
        ``lower_50, upper_50`` and so on.
    at: landmarks, values of a time: for each of them the rows after it are predicted
        from the history up to it, both by default rows of the frame of the fit. The result is
        indexed by landmark and row, and begins with the columns of subject and time.
    time: the column of that time; by default the time of the model, (time | id), else the only
        number of the formula, indicators aside, that varies within subjects.
    theta: "held" takes the parameters as known, for intervals that are those of a known model.
    new_groups: "population" or "error" when an id was not in the fit (and has no history).
    method: where draws of b given the outcomes come from: "refined", a search for every subject, or
        "encoder", that of the fit, and a search where its weights ask for one; :meth:`posterior`.
    draws: simulated outcomes behind a prediction interval, theta before b before y; none are needed
        where eta and y given eta are normal. ``seed`` makes them again.

    newdata and history are frames of any library or dicts of columns; ids are matched by value,
    whatever type they are written in. Times before or after all outcomes of the fit are named in a
    warning.

    Returns a frame with ``fit`` and, with an interval, ``se, lower, upper``: se is the standard
    deviation on the scale asked for at the estimated variances, the ends are those of the link
    scale. A row outside of the
    row space of the design (an empty cell of ``f * h``, a level without outcomes) is not estimable:
    it is missing, and a warning names the coefficient that it needs.

    Raises ValueError: history= without the column of the ids, or of other subjects only.

    References: :mod:`dgmm.prediction.mixture`.
    """
    if type == "prob":
        type, scale = "subject", "categories"
    wanted = Wanted(type, scale, interval, level, new_groups, draws, theta)
    random = fit.call.seed if seed is None else seed
    if at is not None:
        options: dict[str, Any] = {"type": type, "scale": scale, "interval": interval}
        options |= {"level": level, "theta": theta, "new_groups": new_groups, "method": method}
        if history is None:
            check_rows(fit, "at= without history=")
        past = fit.memory.frame if history is None else history
        if past is None:
            raise ValueError(
                "at= needs history=: this fit was read from a file, and files do not hold the data"
            )
        return at_landmarks(
            at, newdata, past,
            clock_of(time, fit.memory, fit.estimate.panel.subject.numpy()), fit.memory.groups[0],
            lambda rows, known: predict(
                fit, rows, history=known, draws=draws, seed=seed, **options
            ),
        )  # fmt: skip
    past = None if isinstance(history, Panel) else history
    with calculable(fit.memory, newdata=newdata, history=past):
        return new_rows.predict(
            through(fit.estimate, method),
            parameter_information(fit) if interval is None else joint_information(fit),
            fit.memory.spec,
            wanted,
            newdata,
            history,
            (fit.memory.labels, fit.memory.rows),
            fit.memory.departures,
            random,
        )


def simulate(
    fit: Fitted, nsim: int = 1, *, seed: int, condition_on_data: bool = False
) -> pd.DataFrame:
    """Outcomes drawn from the fitted model for every row, one column per draw.

    New random effects by default; ``condition_on_data`` keeps E(b | y) of every subject. Of
    method="gibbs" these are posterior predictive draws: theta is another draw in every column, and
    ``condition_on_data`` keeps the effects of that draw.
    """
    return _columns(fit, of_fit.simulations(fit.estimate, nsim, seed, condition_on_data))


def prior_predictive(fit: Fitted, nsim: int = 1, *, seed: int) -> pd.DataFrame:
    """Outcomes drawn from the prior for every row of the data, one column per draw.

        theta ~ p(theta),   b_i ~ N(0, I),   y_ij | b_i ~ F

    Nothing is learnt from the outcomes but what the default prior takes from them, which is in the
    summary. Under priors as weak as the default most columns lie far from any data.

    Args:
        fit: a fit by ``method="gibbs"``.
        nsim: number of columns.
        seed: of the draws.

    Raises:
        ValueError: the fit was not sampled, so that it has no prior.

    Example:
        >>> import dgmm
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> told = dgmm.prior(
        ...     beta=dgmm.normal([250, 10], [50, 5]), cov=dgmm.half_t(4, 20),
        ...     sigma2=dgmm.half_t(4, 30)
        ... )
        >>> fit = dgmm.mixed_model(
        ...     "Reaction ~ Days + (1 | Subject)", sleep, method="gibbs", prior=told
        ... )
        >>> fit.prior_predictive(200, seed=1).shape
        (180, 200)

    References:
        Gabry, Simpson, Vehtari, Betancourt and Gelman (2019), J. Royal Statistical Society A 182,
        389-402.
    """
    chains_of(fit, "prior_predictive()")
    prior = fit.request.sampling.prior
    return _columns(fit, of_fit.from_prior(fit.estimate, prior, nsim, seed))


def _columns(fit: Fitted, values: np.ndarray) -> pd.DataFrame:
    """Draws (N, nsim) for the rows of the user."""
    values = np.where(fit.memory.departures.estimable[:, None], values, np.nan)
    frame = pd.DataFrame(values, index=fit.memory.labels)
    frame.columns = [f"sim_{j + 1}" for j in range(values.shape[1])]
    return frame.iloc[fit.memory.back]


def log_score(
    fit: Fitted, newdata: Any, *, method: str = "refined", seed: int | None = None
) -> pd.DataFrame:
    """Marginal log-likelihood of every subject of ``newdata`` under this fit.

        l_i = log integral p(y_i | b; theta-hat) N(b; 0, I) db

    Of method="gibbs" the log of the mean of this density over draws of theta.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        newdata: rows with outcomes; missing ones contribute nothing. The subjects are taken
            as new: outcomes that the fit has seen of the same ids are not used.
        method: "refined", or "encoder": importance sampling from the encoder of the fit, see
            :meth:`posterior`.
        seed: of the draws, by default that of the fit. Those of a subject depend on its id,
            not on who else is there, so two fits may be compared on any subset.

    Returns:
        A frame with one row per subject, in the order of the ids: ``log_score``; ``mc_error``,
        the Monte Carlo standard error after importance sampling, the change to the next longer
        rule after quadrature, zero when exact, missing after Laplace's approximation; ``nobs``,
        the outcomes it is the density of. Errors of subjects are independent: that of a mean
        over n subjects is the root of their sum of squares, divided by n.

    Raises:
        ValueError: several grouping factors, or a column of the formula is missing.

    Example:
        >>> import dgmm
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> new = sleep["Subject"].isin(["308", "309"])
        >>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep[~new])
        >>> fit.log_score(sleep[new])["log_score"].round(2).to_dict()
        {'308': -60.57, '309': -47.28}

    References:
        Gneiting and Raftery (2007), J. American Statistical Association 102, 359-378.
    """
    start = fit.call.seed if seed is None else seed
    with calculable(fit.memory, newdata=newdata):
        table = log_scores(
            through(fit.estimate, method), fit.memory.spec, newdata, fit.request, start
        )
    return table.rename_axis(index=fit.memory.groups[0])
