"""Inference on top of an estimate: one idea per file; nothing here knows Fit.

likelihood_ratio (nesting, mixtures), contrasts (Wald tests), satterthwaite and restricted (on
gaussian, the differentiable likelihood), profile (on surfaces and coordinates), replicates (the
bootstrap), influential, explained (R2, ICC), drop_terms, drop_effects, subject_fits; tables prints
tests.
"""
