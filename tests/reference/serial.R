# Intercepts, Ornstein-Uhlenbeck and AR(1) paths, noise: lme, gls, glmmTMB, and a dense normal density
# maximised to full precision, by ML and REML, on visits.csv, stuck.csv, ar1.csv and counts.csv
# (recipes: visits_frame and so on in tests/toys.py), and on data/ovary.csv. Writes serial.json.
# Run by `Rscript serial.R` in this folder.
suppressMessages({library(nlme); library(glmmTMB); library(numDeriv); library(jsonlite)})
source("maxima.R")
d <- transform(read.csv("visits.csv"), id = factor(id))
stuck <- transform(read.csv("stuck.csv"), id = factor(id))
a <- transform(read.csv("ar1.csv"), id = factor(id))
a <- a[!is.na(a$y), ]
counts <- transform(read.csv("counts.csv"), id = factor(id))

ovary <- transform(read.csv("../../data/ovary.csv"), id = factor(Mare), y = follicles,
                   wave = sin(2 * pi * Time), rise = cos(2 * pi * Time))

split_up <- function(data, formula, time) lapply(split(data, data$id), function(s)
  list(y = s$y, X = model.matrix(formula, s), lag = abs(outer(s[[time]], s[[time]], "-"))))
of_visits <- split_up(d, ~ time + x, "time")
of_stuck <- split_up(stuck, ~ time + x, "time")
of_ar1 <- split_up(a, ~ x, "visit")
of_ovary <- split_up(ovary, ~ wave + rise, "Time")

# w: log SDs, log range or atanh rho, log sigma
full <- function(s, w) exp(2 * w[1]) + exp(2 * w[2]) * exp(-s$lag / exp(w[3])) +
  diag(exp(2 * w[4]), length(s$y))
path <- function(s, w) exp(2 * w[1]) * exp(-s$lag / exp(w[2])) + diag(exp(2 * w[3]), length(s$y))
car1 <- function(s, w) exp(2 * w[1]) + exp(2 * w[2]) * exp(-s$lag / exp(w[3]))
visits <- function(s, w) exp(2 * w[1]) + exp(2 * w[2]) * tanh(w[3])^s$lag +
  diag(exp(2 * w[4]), length(s$y))
of_full <- function(w) list(sd_intercept = exp(w[1]), sd_path = exp(w[2]), range = exp(w[3]),
                            sigma = exp(w[4]))
of_path <- function(w) list(sd_path = exp(w[1]), range = exp(w[2]), sigma = exp(w[3]))
of_car1 <- function(w) list(sd_intercept = exp(w[1]), sd_path = exp(w[2]), range = exp(w[3]))
of_visit <- function(w) list(sd_intercept = exp(w[1]), sd_path = exp(w[2]), rho = tanh(w[3]),
                             sigma = exp(w[4]))
starts <- function(ranges, before, after) lapply(ranges, function(r) c(before, r, after))
logs <- c("log_sd_intercept", "log_sd_path", "log_range", "log_sigma")

# nlme: from its default start, and from several. corExp with a nugget c has correlation
# (1 - c) exp(-lag / range), so sd_path^2 = (1 - c) s^2 and sigma^2 = c s^2.
of_nlme <- function(fit) {
  k <- coef(fit$modelStruct$corStruct, unconstrained = FALSE)
  out <- list(log_likelihood = as.numeric(logLik(fit)),
              fixef = unname(if (inherits(fit, "lme")) fixef(fit) else coef(fit)),
              se = unname(sqrt(diag(if (inherits(fit, "lme")) fit$varFix else fit$varBeta))))
  if (inherits(fit, "lme")) out$sd_intercept <- as.numeric(VarCorr(fit)["(Intercept)", "StdDev"])
  if ("nugget" %in% names(k)) {
    out$range <- k[["range"]]
    out$sd_path <- fit$sigma * sqrt(1 - k[["nugget"]])
    out$sigma <- fit$sigma * sqrt(k[["nugget"]])
  } else {
    out$phi <- k[[1]]
    out$sd_path <- fit$sigma
  }
  out
}
exponential <- function(value, method, random = TRUE, data = d) tryCatch({
  correlation <- if (is.null(value)) corExp(form = ~ time | id, nugget = TRUE)
    else corExp(value, ~ time | id, nugget = TRUE)
  of_nlme(if (random) lme(y ~ time + x, data, random = ~ 1 | id, method = method,
                          correlation = correlation)
          else gls(y ~ time + x, data, method = method, correlation = correlation))
}, error = function(e) list(error = conditionMessage(e)))
tried <- list(default = NULL, c(0.5, 0.2), c(1, 0.2), c(2, 0.2), c(3, 0.5), c(0.5, 0.05))
several <- function(method, random = TRUE, data = d) lapply(seq_along(tried), function(i)
  c(list(start = if (is.null(tried[[i]])) "default" else tried[[i]]),
    exponential(tried[[i]], method, random, data)))
continuous <- function(method) of_nlme(lme(y ~ time + x, d, random = ~ 1 | id, method = method,
                                           correlation = corCAR1(form = ~ time | id)))

d$tf <- numFactor(d$time)
stuck$tf <- numFactor(stuck$time)
a$vf <- factor(a$visit, levels = 0:9)
counts$tf <- numFactor(counts$time)

entry <- function(id, formula, n, reml, found, ...) {
  found$w <- NULL
  c(list(id = id, formula = formula, n = n, reml = reml), found, list(others = list(...)))
}
refs <- list()
for (reml in c(FALSE, TRUE)) {
  method <- if (reml) "REML" else "ML"
  tag <- if (reml) "_reml" else ""
  ranges <- log(c(0.3, 1.2, 5))
  refs[[paste0("full", tag)]] <- entry(paste0("ou_intercept", tag),
    "y ~ time + x + (1 | id) + (ou(time) | id)", nrow(d), reml,
    maximum(of_visits, full, starts(ranges, c(-0.2, 0), -0.7), of_full, logs, reml),
    lme_corExp_nugget = several(method),
    glmmTMB = polished_tmb(y ~ time + x + (1 | id) + ou(tf + 0 | id), d, REML = reml))
  refs[[paste0("stuck", tag)]] <- entry(paste0("stuck", tag),
    "y ~ time + x + (1 | id) + (ou(time) | id)", nrow(stuck), reml,
    maximum(of_stuck, full, starts(ranges, c(-0.2, 0), -0.7), of_full, logs, reml),
    lme_corExp_nugget = several(method, data = stuck),
    glmmTMB = polished_tmb(y ~ time + x + (1 | id) + ou(tf + 0 | id), stuck, REML = reml))
  refs[[paste0("path", tag)]] <- entry(paste0("ou", tag), "y ~ time + x + (ou(time) | id)",
    nrow(d), reml, maximum(of_visits, path, starts(ranges, 0.2, -0.7), of_path, logs[-1], reml),
    gls_corExp_nugget = several(method, FALSE),
    glmmTMB = polished_tmb(y ~ time + x + ou(tf + 0 | id), d, REML = reml))
  refs[[paste0("car1", tag)]] <- entry(paste0("car1_intercept", tag),
    "y ~ time + x + (1 | id), correlation corCAR1(~ time | id), no noise", nrow(d), reml,
    maximum(of_visits, car1, lapply(ranges, function(r) c(-0.2, 0, r)), of_car1, logs[1:3], reml),
    lme_corCAR1 = continuous(method))
  mare <- lme(y ~ wave + rise, ovary, random = ~ 1 | id, method = method,
              correlation = corExp(form = ~ Time | id, nugget = TRUE))
  refs[[paste0("ovary", tag)]] <- entry(paste0("ovary", tag),
    "y ~ wave + rise + (1 | id) + (ou(Time) | id)", nrow(ovary), reml,
    maximum(of_ovary, full, starts(log(c(0.05, 0.2, 1)), c(0.8, 1), 0.5), of_full, logs, reml),
    lme_corExp_nugget = of_nlme(mare))
  refs[[paste0("ar1", tag)]] <- entry(paste0("ar1_intercept", tag),
    "y ~ x + (1 | id) + (ar1(visit) | id)", nrow(a), reml,
    maximum(of_ar1, visits, starts(c(-0.5, 0.5, 1.2), c(-0.3, 0), -0.5), of_visit,
            c("log_sd_intercept", "log_sd_path", "atanh_rho", "log_sigma"), reml),
    glmmTMB = polished_tmb(y ~ x + (1 | id) + ar1(vf + 0 | id), a, REML = reml))
}

# Laplace's approximation
poisson_fit <- polished_tmb(count ~ x + (1 | id) + ou(tf + 0 | id), counts, poisson())
refs$poisson <- c(list(id = "poisson_ou_intercept",
                       formula = "count ~ x + (1 | id) + (ou(time) | id)", n = nrow(counts),
                       likelihood = "laplace"),
                  poisson_fit[c("log_likelihood", "log_likelihood_default", "max_abs_gradient",
                                "fixef", "se_full")],
                  list(parameters = list(sd_intercept = exp(poisson_fit$theta[1]),
                                         sd_path = exp(poisson_fit$theta[2]),
                                         range = exp(-poisson_fit$theta[3]))))
for (r in refs) {
  cat(r$id, format(r$log_likelihood, digits = 15), r$max_abs_gradient, "\n")
  for (o in r$others) if (!is.null(o$log_likelihood)) cat("   ", format(o$log_likelihood - r$log_likelihood, digits = 4), "\n")
    else for (one in o) cat("    start", paste(one$start), format(one$log_likelihood - r$log_likelihood, digits = 4), one$error, "\n")
}
stored(c("nlme", "glmmTMB", "TMB", "numDeriv"), refs, "serial.json")
