# Bounded outcomes of bounded.csv (60 groups x 8, on [1, 7]): glmmTMB by Laplace, survreg for the
# tobit model without random effects. Log-densities are those of y: the Jacobian is -log 6 for every
# outcome inside, none at an end, where there is mass.
suppressMessages({library(glmmTMB); library(survival); library(jsonlite); library(numDeriv)})
source("maxima.R")
data <- read.csv("bounded.csv")

laplace <- function(id, outcome, formula, family, start = NULL) {
  inside <- sum(data[[outcome]] > 1 & data[[outcome]] < 7)
  fit <- glmmTMB(formula, data, family = family, start = start)
  gradient <- function(v) as.vector(fit$obj$gr(v))
  curvature <- function(v) { H <- jacobian(gradient, v, method = "simple"); (H + t(H)) / 2 }
  best <- newton(fit$obj$fn, fit$fit$par, gradient, curvature)
  p <- split(unname(best$par), names(best$par))
  list(id = id, log_likelihood = -best$value - inside * log(6),
       log_likelihood_default = -fit$fit$objective - inside * log(6), max_abs_gradient = best$gradient,
       fixef = p$beta, sd = exp(p$theta), precision = exp(p[[grep("^betad", names(p))]]),
       psi = p$psi)
}
beta <- laplace("beta", "inside", I((inside - 1) / 6) ~ x + t + (1 | id), beta_family())
ordered <- laplace("ordered_beta", "ends", I((ends - 1) / 6) ~ x + t + (1 | id), ordbeta(),
                   start = list(psi = c(-1, 1)))

tobit <- survreg(Surv(ifelse(tobit <= 1, -Inf, tobit), ifelse(tobit >= 7, Inf, tobit),
                      type = "interval2") ~ x + t, data, dist = "gaussian",
                 control = list(rel.tolerance = 1e-14, maxiter = 100))
out <- list(
  versions = list(R = R.version.string, glmmTMB = as.character(packageVersion("glmmTMB")),
                  survival = as.character(packageVersion("survival"))),
  refs = list(beta, ordered,
    list(id = "tobit", log_likelihood = tobit$loglik[2], fixef = unname(coef(tobit)),
         sigma = tobit$scale, se = unname(sqrt(diag(vcov(tobit)))))))
write_json(out, "bounded.json", auto_unbox = TRUE, digits = 12, pretty = TRUE)
