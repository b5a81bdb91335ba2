# Residuals of nlme that are correlated and have no nugget, by ML and REML, on ar1.csv (ar1_frame in
# tests/toys.py) and data/ovary.csv. Writes noiseless.json. Run by `Rscript noiseless.R` in this folder.
suppressMessages({library(nlme); library(numDeriv); library(jsonlite)})
source("maxima.R")
a <- transform(read.csv("ar1.csv"), id = factor(id))
a <- a[!is.na(a$y), ]
ovary <- transform(read.csv("../../data/ovary.csv"), id = factor(Mare),
                   wave = sin(2 * pi * Time), rise = cos(2 * pi * Time))
control <- list(tolerance = 1e-12, msTol = 1e-14, maxIter = 500, msMaxIter = 500)
entry <- function(id, fit) {
  k <- coef(fit$modelStruct$corStruct, unconstrained = FALSE)
  lme <- inherits(fit, "lme")
  out <- list(id = id, log_likelihood = as.numeric(logLik(fit)),
              fixef = unname(if (lme) fixef(fit) else coef(fit)),
              se = unname(sqrt(diag(if (lme) fit$varFix else fit$varBeta))),
              sigma = fit$sigma, phi = k[[1]], n = fit$dims$N, p = fit$dims$p)
  if (lme) {
    out$sd_intercept <- as.numeric(VarCorr(fit)["(Intercept)", "StdDev"])
    out$n <- nrow(fit$data); out$p <- length(fixef(fit))
  }
  out
}
refs <- list()
for (method in c("ML", "REML")) {
  tag <- if (method == "REML") "_reml" else ""
  refs[[length(refs) + 1]] <- entry(paste0("gls_corAR1", tag),
    gls(y ~ x, a, correlation = corAR1(form = ~ visit | id), method = method, control = control))
  refs[[length(refs) + 1]] <- entry(paste0("ovary_corCAR1", tag),
    lme(follicles ~ wave + rise, ovary, random = ~ 1 | id, method = method,
        correlation = corCAR1(form = ~ Time | id)))
}
stored("nlme", refs, "noiseless.json")
for (r in refs) cat(r$id, format(r$log_likelihood, digits = 15), r$phi, r$sigma, "\n")
