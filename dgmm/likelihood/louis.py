"""Louis's identity: the observed information of a classical model at quadrature nodes.

    -d2 l / dx dx' = E(-d2 log p(y, b)) - var(d log p(y, b)),

expectations over b | y, as exact as the rule. Louis (1982), J. R. Statist. Soc. B 44, 226-233.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from dgmm.likelihood.adaptive_engine import AdaptiveEngine
from dgmm.likelihood.slabs import Slab

__all__ = ["louis_information"]


def louis_information(engine: AdaptiveEngine, x: np.ndarray) -> np.ndarray:
    """The observed information in the vector x, (P, P); needs many nodes."""
    point = engine.point(x)
    total = np.zeros((engine.size, engine.size))
    for slab in engine.slabs:
        fixed = engine.fixed(slab, point)
        b = engine.find_modes(slab, fixed, point.Lambda, engine.modes[:, slab.subjects])
        total += _of_slab(engine, slab, fixed, point.Lambda, b)
    return total


def _columns(engine: AdaptiveEngine, slab: Slab) -> list[tuple[int, Tensor, int]]:
    """d eta_s / d parameter at a node b: predictor s, row part (J, n), direction of b or -1."""
    one = torch.ones(1, 1, dtype=torch.float64)
    X = slab.gather(engine.panel.rows.X) @ engine.model.basis
    columns = [(0, part, -1) for part in X.unbind(-1)]
    T = [one if part is None else part for part in slab.T]
    for row, column in zip(engine.pattern.row, engine.pattern.column, strict=True):
        used = np.flatnonzero(engine.frame[:, row])  # columns of T frame
        part = torch.stack(torch.broadcast_tensors(*(T[j] * engine.frame[j, row] for j in used)))
        columns.append((int(engine.predictor[row]), part.sum(0), int(column)))
    for s, design in enumerate(engine.designs, 1):
        parts = [one] if design is None else list(slab.gather(design).unbind(-1))
        columns += [(s, part, -1) for part in parts]
    return columns


def _of_slab(
    engine: AdaptiveEngine, slab: Slab, fixed: list[Tensor], Lambda: np.ndarray, b: np.ndarray
) -> np.ndarray:
    columns, n = _columns(engine, slab), slab.shape[1]
    P, everywhere = len(columns), list(range(len(fixed)))
    terms = engine.log_terms(slab, fixed, Lambda, b)
    share = np.exp(terms - logsumexp(terms, axis=0))
    first_node = 0
    mean = torch.zeros(P, n, dtype=torch.float64)
    square = torch.zeros(P, P, dtype=torch.float64)
    pairs = {
        (*sorted((s, u)), *sorted((direction, mate)))
        for i, (s, _, direction) in enumerate(columns)
        for u, _, mate in columns[: i + 1]
    }
    moments = {key: torch.zeros(slab.shape, dtype=torch.float64) for key in pairs}
    for _, nodes, found in engine.at_nodes(slab, fixed, Lambda, b, 2, everywhere):
        last_node = first_node + nodes.shape[1]
        weight = torch.from_numpy(share[first_node:last_node])
        first_node = last_node
        draws = torch.from_numpy(nodes)
        score = torch.empty(P, *weight.shape, dtype=torch.float64)
        first = [slab.masked(g) for g in found.first]
        for j, (s, part, direction) in enumerate(columns):
            summed = (first[s] * part).sum(-2)
            score[j] = summed if direction < 0 else summed * draws[direction]
        mean += (weight * score).sum(1)
        flat = (score * weight.sqrt()).reshape(P, -1)
        square += flat @ flat.T
        for key, total in moments.items():
            factor = -weight
            for direction in key[2:]:
                factor = factor if direction < 0 else factor * draws[direction]
            total += (found.second[key[0], key[1]] * factor[:, None]).sum(0)
    information = mean @ mean.T - square
    for i, (s, part, direction) in enumerate(columns):
        for j in range(i + 1):
            u, other, mate = columns[j]
            W = moments[*sorted((s, u)), *sorted((direction, mate))]
            entry = (slab.masked(W) * part * other).sum()
            information[i, j] += entry
            if i != j:
                information[j, i] += entry
    return information.numpy()
