"""The joint density p(y, b) = p(b) p(y | b), on one page.

    b_i ~ N(0, I_k),   eta_ij = offset_ij + mu1(X_ij) + mu2(b_i, T_ij),
    y_ij | b_i ~ F(g^-1(eta_ij), sigma)

theta is a dictionary of named tensors on an internal, unit-free scale: the coefficients of
orthonormal columns ("beta"), the extra parameters of the family ("extra"), the weights of fixed
networks ("dnn1.A1") and of latent structures ("latent1.log_diagonal").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgmm.design import Design
from dgmm.families import Extra, Family
from dgmm.latent import Latent
from dgmm.latent import build as build_latent
from dgmm.networks import Dense, Weights
from dgmm.numerics.bases import whitening
from dgmm.numerics.triangle import triangle
from dgmm.panel import Block, Panel, Rows
from dgmm.parameters import Packing, Theta, part

__all__ = [
    "START_RIDGE",
    "FixedNetwork",
    "Model",
    "PartPredictor",
    "Reference",
    "build_model",
    "log_prior",
    "orthonormal_basis",
]

START_RIDGE = 1.0
"""Penalty of a network on the fixed side before the evidence has spoken."""

REFERENCE_ROWS = 20_000


@dataclass(frozen=True)
class Reference:
    """The sample over which fixed networks are centred and made orthogonal to linear columns."""

    X: Tensor  # (R, p)
    inputs: tuple[Tensor, ...]  # (R, r) each


@dataclass(frozen=True)
class FixedNetwork:
    """One dnn() term: f(x) - C gamma, gamma the least-squares coefficients of f on C,

        f(x) = unit (skip'z + network(z)),   z = (x - centre) / spread.

    C holds the constant and the linear columns that depend on the network's own variables only, so
    the linear coefficients keep all that is linear in those variables. The skip (inputs that C does
    not span already) nests the linear model in x; it carries no ridge.
    """

    label: str
    names: tuple[str, ...]  # columns of its inputs
    network: Dense
    centre: Tensor  # (r,) means of the inputs
    spread: Tensor  # (r,) standard deviations
    shared: tuple[int, ...]  # columns of X to be orthogonal to
    linear: tuple[int, ...]  # inputs with a skip
    unit: float  # output scale
    ridge: float

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights."""
        return {"skip": (len(self.linear),), **self.network.shapes()}

    def standardise(self, inputs: Tensor) -> Tensor:
        """z = (x - centre) / spread."""
        return (inputs - self.centre) / self.spread

    def raw(self, weights: Weights, inputs: Tensor) -> Tensor:
        """f before it is centred, (...)."""
        z = self.standardise(inputs)
        curved = self.network(weights, z)[..., 0]
        return self.unit * (curved + z[..., list(self.linear)] @ weights["skip"])

    def columns(self, X: Tensor) -> Tensor:
        """C: the constant and the shared linear columns."""
        return torch.cat([torch.ones_like(X[..., :1]), X[..., list(self.shared)]], dim=-1)


@dataclass(frozen=True)
class PartPredictor:
    """The linear predictor of an extra parameter of the family: "zi" or "dispersion"."""

    name: str
    position: int  # of the parameter in family.extra
    names: tuple[str, ...]  # its columns


@dataclass(frozen=True)
class Model:
    """Everything fixed before estimation; ``theta`` holds everything estimated."""

    family: Family
    names: tuple[str, ...]  # (p,) linear coefficients
    basis: Tensor  # (p, p): beta = basis @ theta["beta"]
    unit: float  # scale of the linear predictor
    networks: tuple[FixedNetwork, ...]
    latents: tuple[Latent, ...]
    parts: tuple[PartPredictor, ...]
    targets: tuple[int, ...]  # per latent: 0 enters eta, r the r-th extra parameter
    latent_ridge: tuple[float, ...]
    open_ridge: tuple[str, ...]  # networks whose penalty the fit chooses
    reference: Reference
    whitener: Tensor  # (q, q): the columns of [T_1, T_2, ...] whitener are orthonormal on average

    # -- sizes and parameters ----------------------------------------------------------------

    @property
    def k(self) -> int:
        """Dimension of b_i."""
        return sum(latent.dim for latent in self.latents)

    @property
    def linear(self) -> bool:
        """No network anywhere: a classical mixed model."""
        return not self.networks and not any(latent.neural for latent in self.latents)

    @property
    def by_columns(self) -> bool:
        """The random part is linear in b, with loadings that are the same for all rows."""
        return all(latent.by_columns for latent in self.latents)

    @property
    def serial(self) -> bool:
        """The random part of a row depends on the other rows of its subject."""
        return any(latent.serial for latent in self.latents)

    def sized(self, panel: Panel) -> Model:
        """The model where the subjects of a panel have room: paths have a step for every row."""
        if not self.serial:
            return self
        longest, rows = int(panel.count.max()), panel.rows
        sized = (latent.sized(rows.of_term(i), longest) for i, latent in enumerate(self.latents))
        return replace(self, latents=tuple(sized))

    def history(self, panel: Panel) -> Panel:
        """The rows whose states follow from the outcomes seen: of a path every planned one."""
        return panel.masked_rows() if self.serial else panel.observed_rows()

    @property
    def packing(self) -> Packing:
        """Names and shapes of theta."""
        shapes: dict[str, tuple[int, ...]] = {"beta": (len(self.names),)}
        for i, network in enumerate(self.networks, 1):
            shapes |= {f"dnn{i}.{name}": s for name, s in network.shapes().items()}
        for i, latent in enumerate(self.latents, 1):
            shapes |= {f"latent{i}.{name}": s for name, s in latent.shapes().items()}
        shapes["extra"] = (sum(self.extra_sizes),)
        return Packing(shapes)

    def beta(self, theta: Theta) -> Tensor:
        """Coefficients of the columns as the user wrote them."""
        return self.basis @ theta["beta"]

    def penalised(self) -> dict[str, list[str]]:
        """Per network ("dnn1", "latent1") its penalised parameters: the layers, nothing else.

        Intercepts of hidden units are penalised with the matrices: they place the units on
        standardised inputs, and left free those of silent units would count as parameters.
        """
        found = {}
        for i, network in enumerate(self.networks, 1):
            found[f"dnn{i}"] = [f"dnn{i}.{name}" for name in network.network.shapes()]
        for i, latent in enumerate(self.latents, 1):
            if latent.penalised:
                found[f"latent{i}"] = [f"latent{i}.{name}" for name in sorted(latent.penalised)]
        return found

    def head(self) -> list[str]:
        """All but the hidden layers of the networks: linear parts and last layers."""
        hidden = set()
        for names in self.penalised().values():
            last = max(int(name.rpartition(".")[2][1:]) for name in names)
            hidden |= {name for name in names if int(name.rpartition(".")[2][1:]) < last}
        return [name for name in self.packing.shapes if name not in hidden]

    def ridge_of(self, network: str) -> float:
        """Penalty kappa of a network by its prefix, "dnn1" or "latent1"."""
        if network.startswith("dnn"):
            return self.networks[int(network.removeprefix("dnn")) - 1].ridge
        return self.latent_ridge[int(network.removeprefix("latent")) - 1]

    def ridge(self) -> dict[str, float]:
        """Penalty kappa of every penalised parameter: layers, and curves of latent structures."""
        kappa = {
            name: self.ridge_of(network)
            for network, names in self.penalised().items()
            for name in names
        }
        for i, latent in enumerate(self.latents, 1):
            kappa |= {f"latent{i}.{name}": value for name, value in latent.weak.items()}
        return kappa

    def with_ridge(self, kappa: Mapping[str, float]) -> Model:
        """The model with other penalties for the networks whose penalty is open."""
        given = {name: value for name, value in kappa.items() if name in self.open_ridge}
        networks = tuple(
            replace(network, ridge=given.get(f"dnn{i}", network.ridge))
            for i, network in enumerate(self.networks, 1)
        )
        latents = tuple(
            given.get(f"latent{i}", ridge) for i, ridge in enumerate(self.latent_ridge, 1)
        )
        return replace(self, networks=networks, latent_ridge=latents)

    def penalty(self, theta: Theta) -> Tensor:
        """1/2 sum kappa |w|^2 over the penalised weights."""
        total = torch.zeros((), dtype=torch.float64)
        for name, kappa in self.ridge().items():
            total = total + 0.5 * kappa * theta[name].square().sum()
        return total

    # -- the density -------------------------------------------------------------------------

    def prepare(self, theta: Theta) -> Theta:
        """theta with what follows from it once for all subjects: gamma_i, centres."""
        ready = dict(theta)
        for i, network in enumerate(self.networks, 1):
            C = network.columns(self.reference.X)
            f = network.raw(part(theta, f"dnn{i}."), self.reference.inputs[i - 1])
            ready[f"dnn{i}.gamma"] = torch.linalg.solve(C.T @ C, C.T @ f)
        for i, latent in enumerate(self.latents, 1):
            derived = latent.prepare(part(theta, f"latent{i}."))
            ready |= {f"latent{i}.{name}": value for name, value in derived.items()}
        return ready

    def network_effect(self, ready: Theta, i: int, rows: Rows) -> Tensor:
        """The centred, orthogonal output of the i-th (0, 1, ...) fixed network at some rows."""
        network = self.networks[i]
        inputs = rows.inputs[i]
        if rows.steady[i : i + 1] == (True,) and inputs.ndim == 3:  # once per subject is enough
            inputs = inputs[:, :1]
        f = network.raw(part(ready, f"dnn{i + 1}."), inputs)
        return f - network.columns(rows.X) @ ready[f"dnn{i + 1}.gamma"]

    def mu1(self, ready: Theta, rows: Rows) -> Tensor:
        """offset + X beta + networks, in the shape of the rows."""
        eta = rows.offset + rows.X @ self.beta(ready)
        for i in range(len(self.networks)):
            eta = eta + self.network_effect(ready, i, rows)
        return eta

    def mu2(
        self, ready: Theta, b: Tensor, rows: Rows, terms: Sequence[int] | None = None
    ) -> Tensor:
        """Random part, or what some of its ``terms`` contribute: b (..., n, k) -> (..., n, J)."""
        parts = self._split(b)
        effects = [
            self._effect(ready, i, parts[i], rows)
            for i, target in enumerate(self.targets)
            if target == 0 and (terms is None or i in terms)
        ]
        if not effects:
            return torch.zeros(*b.shape[:-1], rows.offset.shape[-1], dtype=b.dtype)
        return torch.stack(effects).sum(0) if len(effects) > 1 else effects[0]

    def _effect(self, ready: Theta, i: int, b: Tensor, rows: Rows) -> Tensor:
        """Contribution of the i-th (0, 1, ...) latent to its predictor."""
        weights = part(ready, f"latent{i + 1}.")
        return self.latents[i].effect(weights, b, rows.of_term(i))

    def jacobian(self, ready: Theta, b: Tensor, rows: Rows) -> Tensor:
        """d eta / d b at b (..., n, k): (..., n, J, k)."""
        parts = []
        for i, (latent, inner) in enumerate(zip(self.latents, self._split(b), strict=True)):
            weights = part(ready, f"latent{i + 1}.")
            J = latent.jacobian(weights, inner, rows.of_term(i))
            J = J if self.targets[i] == 0 else torch.zeros_like(J)
            parts.append(J.expand(*b.shape[:-1], *J.shape[-2:]))
        return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]

    def log_likelihood(
        self, ready: Theta, b: Tensor, block: Block, mu1: Tensor | None = None
    ) -> Tensor:
        """log p(y_i | b_i): b (..., n, k) -> (..., n), over the real rows of the block.

        mu1: of the rows (n, J), where it is known already.
        """
        fixed = self.mu1(ready, block.rows) if mu1 is None else mu1
        eta = fixed + self.mu2(ready, b, block.rows)
        return self.log_density(ready, eta, b, block)

    def log_density(self, ready: Theta, eta: Tensor, b: Tensor, block: Block) -> Tensor:
        """log p(y_i | b_i), (..., n), at a linear predictor eta (..., n, J) known already."""
        rows = block.rows
        density = self.family.log_density(rows.data, eta, self.extra(ready, rows, b))
        return torch.where(block.mask, density, 0.0).sum(-1)

    def log_joint(self, ready: Theta, b: Tensor, block: Block, mu1: Tensor | None = None) -> Tensor:
        """log p(y_i, b_i) = log p(y_i | b_i) + log N(b_i; 0, I)."""
        return self.log_likelihood(ready, b, block, mu1) + log_prior(b)

    def extra(self, ready: Theta, rows: Rows, b: Tensor | None = None) -> Extra:
        """Extra parameters of the family: (R,), or (R, ..., J) when a part models one of them.

        Without ``b`` the random effects of the parts are at their mean, zero.
        """
        if not self.parts:
            return ready["extra"]
        values = []
        columns = self.extra_designs(rows)
        for r, coefficient in enumerate(torch.split(ready["extra"], list(self.extra_sizes))):
            design = columns[r]
            value = coefficient[0] if design is None else design @ coefficient
            if b is not None:
                for i, inner in enumerate(self._split(b)):
                    if self.targets[i] == r + 1:
                        value = value + self._effect(ready, i, inner, rows)
            values.append(value)
        return torch.stack(torch.broadcast_tensors(*values))

    @property
    def extra_sizes(self) -> tuple[int, ...]:
        """Coefficients of every extra parameter, 1 where it is one number."""
        sizes = [1] * len(self.family.extra)
        for one in self.parts:
            sizes[one.position] = len(one.names)
        return tuple(sizes)

    def part_of(self, i: int) -> str:
        """The part ("zi") whose predictor the i-th (0, 1, ...) latent enters, "" for the mean."""
        entered = {one.position + 1: one.name for one in self.parts}
        return entered.get(self.targets[i], "")

    def one_number(self, name: str) -> int | None:
        """Position in theta["extra"] of an extra parameter that no part models; else None."""
        if name not in self.family.extra:
            return None
        at = self.family.extra.index(name)
        if any(one.position == at for one in self.parts):
            return None
        return sum(self.extra_sizes[:at])

    def extra_designs(self, rows: Rows) -> list[Tensor | None]:
        """Per extra parameter its columns (..., c), None where it is one number."""
        designs: list[Tensor | None] = [None] * len(self.family.extra)
        for one, Z in zip(self.parts, rows.Z, strict=True):
            designs[one.position] = Z
        return designs

    def spread_extra(self, start: Tensor, rows: Rows) -> Tensor:
        """theta["extra"] at which every row has the extra parameters ``start`` (R,)."""
        coefficients = []
        for value, Z in zip(start, self.extra_designs(rows), strict=True):
            if Z is None:
                coefficients.append(value.reshape(1))
            else:
                constant = value.expand(len(Z), 1).clone()
                coefficients.append(torch.linalg.lstsq(Z, constant).solution[:, 0])
        return torch.cat(coefficients) if coefficients else start

    def predictor_of_columns(self) -> list[int]:
        """For every column of all T: 0 where it enters eta, r where the r-th extra parameter."""
        pairs = zip(self.latents, self.targets, strict=True)
        return [target for latent, target in pairs for _ in latent.names]

    def candidate_modes(self, ready: Theta) -> Tensor:
        """Values of b near which the modes of b | y may lie, (c, k); zero is the first."""
        found = [torch.zeros(1, self.k, dtype=torch.float64)]
        for i, latent in enumerate(self.latents):
            own = latent.candidate_modes(part(ready, f"latent{i + 1}."))[1:]
            before = sum(one.dim for one in self.latents[:i])
            after = self.k - before - latent.dim
            found.append(torch.nn.functional.pad(own, (before, after)))
        return torch.cat(found)

    def starts(self, theta: Theta) -> list[Theta]:
        """Parameters from which the likelihood may have different maxima, the given ones first."""
        found = [theta]
        for i, latent in enumerate(self.latents, 1):
            for weights in latent.starts(part(theta, f"latent{i}."))[1:]:
                found.append({**theta, **{f"latent{i}.{n}": w for n, w in weights.items()}})
        return found

    def _split(self, b: Tensor) -> tuple[Tensor, ...]:
        return torch.split(b, [latent.dim for latent in self.latents], dim=-1)

    # -- reparametrisation -------------------------------------------------------------------

    def with_reference(self, panel: Panel, rows: int = REFERENCE_ROWS) -> Model:
        """Centre the networks over (at most ``rows`` evenly spaced rows of) a panel."""
        step = max(1, math.ceil(panel.n_rows / rows))
        kept = panel.rows.take(torch.arange(0, panel.n_rows, step))
        return replace(self, reference=Reference(kept.X, kept.inputs))

    def absorb(self, theta: Theta, other: Model) -> Theta:
        """theta of ``other``, which centres over another sample, for the same function of x."""
        if not self.networks:
            return theta
        gap = torch.zeros(len(self.names), dtype=torch.float64)
        old, new = other.prepare(theta), self.prepare(theta)
        for i, network in enumerate(self.networks, 1):
            shift = new[f"dnn{i}.gamma"] - old[f"dnn{i}.gamma"]
            if "(Intercept)" in self.names:
                gap[self.names.index("(Intercept)")] += shift[0]
            gap[list(network.shared)] += shift[1:]
        return {**theta, "beta": theta["beta"] + torch.linalg.solve(self.basis, gap)}


def log_prior(b: Tensor) -> Tensor:
    """log N(b; 0, I) over the last axis."""
    return -0.5 * b.square().sum(-1) - 0.5 * b.shape[-1] * math.log(2 * math.pi)


def orthonormal_basis(X: Tensor, unit: float) -> Tensor:
    """(p, p): X basis / unit has orthonormal columns of mean square 1.

    Every coefficient on it is of order one.
    """
    R = torch.from_numpy(triangle(X.numpy()))
    eye = torch.eye(X.shape[1], dtype=torch.float64)
    return unit * math.sqrt(len(X)) * torch.linalg.solve_triangular(R, eye, upper=True)


def build_model(design: Design, family: Family, unit: float, ridge: float | None = None) -> Model:
    """The model of a design; ``unit`` is the scale of the linear predictor (residual SD, or 1).

    ``ridge`` holds for every network without its own ridge=; None leaves those to the fit,
    with START_RIDGE to begin with.
    """
    X = torch.from_numpy(design.fixed.matrix)
    basis = orthonormal_basis(X, unit)
    latents = tuple(build_latent(block, unit) for block in design.latents)
    general = START_RIDGE if ridge is None else ridge
    ridges = tuple(
        (latent.ridge if ridge is None else ridge)
        if block.term.options.get("ridge") is None
        else float(block.term.options["ridge"])
        for block, latent in zip(design.latents, latents, strict=True)
    )
    networks = tuple(_fixed_network(design, i, unit, general) for i in range(len(design.networks)))
    own = {f"dnn{i}": block.term.ridge for i, block in enumerate(design.networks, 1)}
    own |= {
        f"latent{i}": block.term.options.get("ridge")
        for i, (block, latent) in enumerate(zip(design.latents, latents, strict=True), 1)
        if latent.penalised
    }
    parts = tuple(
        PartPredictor(name, _modelled(family, name), tuple(columns.names))
        for name, columns in design.parts.items()
    )
    where = {"": 0, **{one.name: one.position + 1 for one in parts}}
    free = tuple(name for name, given in own.items() if ridge is None and given is None)
    inputs = tuple(torch.from_numpy(block.columns.matrix) for block in design.networks)
    return Model(
        family,
        tuple(design.fixed.names),
        basis,
        unit,
        networks,
        latents,
        parts,
        tuple(where[block.term.target] for block in design.latents),
        ridges,
        free,
        Reference(X, inputs),
        _whitener(design),
    )


def _modelled(family: Family, part: str) -> int:
    """Position of the extra parameter that zi= or dispersion= is about."""
    parameter = "logit_zero" if part == "zi" else family.dispersion
    if parameter is None or parameter not in family.extra:
        what = "zero-inflation" if part == "zi" else "dispersion parameter"
        raise ValueError(f"{part}= models the {what} of a family; {family.name!r} has none")
    return family.extra.index(parameter)


def _whitener(design: Design) -> Tensor:
    """K, symmetric, with mean (T K)'(T K) = I: time bases of the encoder without collinearity."""
    blocks = [torch.from_numpy(block.columns.matrix) for block in design.latents]
    T = blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)
    return whitening(T)


def _fixed_network(design: Design, i: int, unit: float, ridge: float) -> FixedNetwork:
    block = design.networks[i]
    term, inputs = block.term, torch.from_numpy(block.columns.matrix)
    own = frozenset().union(*block.columns.variables)
    shared = tuple(j for j, used in enumerate(design.fixed.variables) if used and used <= own)
    spread = inputs.std(0, correction=0)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    X = torch.from_numpy(design.fixed.matrix)
    spanned = torch.cat([torch.ones_like(X[:, :1]), X[:, list(shared)]], dim=1)
    return FixedNetwork(
        term.text,
        tuple(block.columns.names),
        Dense((inputs.shape[1], *term.hidden, 1), term.activation, bias=False, fan_in=True),
        inputs.mean(0),
        spread,
        shared,
        _new_directions(spanned, (inputs - inputs.mean(0)) / spread),
        unit,
        ridge if term.ridge is None else float(term.ridge),
    )


def _new_directions(spanned: Tensor, columns: Tensor) -> tuple[int, ...]:
    """Columns that are not in the span of ``spanned`` and the columns before them."""
    kept: list[int] = []
    for j in range(columns.shape[1]):
        basis, _ = torch.linalg.qr(torch.cat([spanned, columns[:, kept]], dim=1))
        rest = columns[:, j] - basis @ (basis.T @ columns[:, j])
        if rest.norm() > 1e-6 * columns[:, j].norm():
            kept.append(j)
    return tuple(kept)
