"""Linear algebra, quadrature, splines, optimisation: no model, no panel, no formula."""
