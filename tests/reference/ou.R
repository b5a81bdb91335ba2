# Ornstein-Uhlenbeck and AR(1) paths: nlme and glmmTMB, and a dense normal density maximised to full
# precision, on ou.csv and ar1.csv (recipes: ou_frame, ar1_frame in tests/toys.py). Writes ou.json.
# Run by `Rscript ou.R` in this folder.
suppressMessages({library(nlme); library(glmmTMB); library(numDeriv); library(jsonlite)})
d <- transform(read.csv("ou.csv"), id = factor(id))
a <- transform(read.csv("ar1.csv"), id = factor(id))
rows <- function(m) lapply(seq_len(nrow(m)), function(i) unname(m[i, ]))

# A minimum to full precision by Newton steps. `gradient` and `curvature` default to Richardson's
# extrapolation of f.
newton <- function(f, x, gradient = function(v) grad(f, v), curvature = function(v) hessian(f, v)) {
  for (i in 1:12) {
    step <- solve(curvature(x), gradient(x))
    x <- x - step
    if (max(abs(step)) < 1e-9) break
  }
  list(par = x, value = as.numeric(f(x)), gradient = max(abs(gradient(x))),
       vcov = solve(curvature(x)))
}

# -- the dense normal density ----------------------------------------------------------------------
# V_i = sd_intercept^2 11' + sd_path^2 R_i + sigma^2 I, with R = exp(-lag / range) or rho^lag.
# Parameters: beta, log sd_intercept (or none), log sd_path, log range or atanh rho, log sigma.
dense <- function(data, outcome, time, intercept, correlation) {
  data <- data[!is.na(data[[outcome]]), ]
  parts <- lapply(split(data, data$id), function(s)
    list(y = s[[outcome]], X = cbind(1, s$x), lag = abs(outer(s[[time]], s[[time]], "-"))))
  function(v) {
    beta <- v[1:2]
    w <- v[-(1:2)]
    s0 <- if (intercept) exp(2 * w[1]) else 0
    if (intercept) w <- w[-1]
    sum(sapply(parts, function(s) {
      n <- length(s$y)
      R <- if (correlation == "ou") exp(-s$lag / exp(w[2])) else tanh(w[2])^s$lag
      C <- chol(s0 + exp(2 * w[1]) * R + exp(2 * w[3]) * diag(n))
      z <- forwardsolve(t(C), s$y - s$X %*% beta)
      0.5 * (n * log(2 * pi) + sum(z^2)) + sum(log(diag(C)))
    }))
  }
}
gls_of <- function(f, v) solve(hessian(function(b) f(c(b, v[-(1:2)])), v[1:2]))

entry <- function(id, formula, data, outcome, time, intercept, correlation, start) {
  f <- dense(data, outcome, time, intercept, correlation)
  safe <- function(v) tryCatch(f(v), error = function(e) 1e10)  # a step too far
  x <- optim(start, safe, method = "BFGS", control = list(reltol = 1e-14, maxit = 1000))$par
  best <- newton(f, x)
  v <- best$par
  k <- 2 + intercept
  se <- sqrt(diag(best$vcov))
  V <- gls_of(f, v)
  out <- list(id = id, formula = formula, n = sum(!is.na(data[[outcome]])),
              groups = nlevels(droplevels(data[!is.na(data[[outcome]]), "id"])),
              log_likelihood = -best$value, max_abs_gradient = best$gradient,
              fixef = list(`(Intercept)` = v[1], x = v[2]),
              vcov_gls = rows(V), se_full = se[1:2],
              sd_path = exp(v[k + 1]), sigma = exp(v[k + 3]))
  if (intercept) out$sd_intercept <- exp(v[3])
  if (correlation == "ou") {
    out$range <- exp(v[k + 2])
    out$se_log <- list(sd_path = se[k + 1], range = se[k + 2], sigma = se[k + 3])
  } else {
    out$rho <- tanh(v[k + 2])
    out$se_log <- list(sd_path = se[k + 1], sigma = se[k + 3])
    out$se_atanh_rho <- se[k + 2]
  }
  if (intercept) out$se_log$sd_intercept <- se[3]
  out
}

# -- glmmTMB: its own objective, gradient and Laplace approximation, polished -----------------------
# Its parameters: beta; betad = log residual variance (gaussian); theta, per term log SD and, for
# ou, the log rate (correlation exp(-exp(theta) lag)), for ar1 theta with rho = t / sqrt(1 + t^2).
tmb <- function(formula, data, family = gaussian()) {
  fit <- glmmTMB(formula, data, family = family)
  gradient <- function(v) as.vector(fit$obj$gr(v))
  curvature <- function(v) { H <- jacobian(gradient, v, method = "simple"); (H + t(H)) / 2 }
  best <- newton(fit$obj$fn, fit$fit$par, gradient, curvature)
  H <- jacobian(gradient, best$par)
  best$vcov <- solve((H + t(H)) / 2)
  c(best, list(fit = fit, name = names(fit$fit$par)))
}
of_tmb <- function(t, correlation, intercept) {
  v <- t$par
  theta <- unname(v[t$name == "theta"])
  at <- if (intercept) 2 else 1
  out <- list(log_likelihood = -t$value, max_abs_gradient = t$gradient,
              fixef = unname(v[t$name == "beta"]),  # (Intercept), x
              se_full = unname(sqrt(diag(t$vcov))[t$name == "beta"]), sd_path = exp(theta[at]))
  out[[if (correlation == "ou") "range" else "rho"]] <-
    if (correlation == "ou") exp(-theta[at + 1]) else theta[at + 1] / sqrt(1 + theta[at + 1]^2)
  if (intercept) out$sd_intercept <- exp(theta[1])
  if (any(t$name == "betad")) out$sigma <- unname(exp(0.5 * v[t$name == "betad"]))
  out
}

# -- nlme ------------------------------------------------------------------------------------------
# corExp with a nugget c: correlation (1 - c) exp(-lag / range), so sd_path^2 = (1 - c) s^2,
# sigma^2 = c s^2. nlme stops early whatever its tolerances; kept as printed.
of_nlme <- function(fit) {
  k <- coef(fit$modelStruct$corStruct, unconstrained = FALSE)
  out <- list(log_likelihood = as.numeric(logLik(fit)), fixef = unname(if (inherits(fit, "lme"))
    fixef(fit) else coef(fit)), range = k[["range"]],
    sd_path = fit$sigma * sqrt(1 - k[["nugget"]]), sigma = fit$sigma * sqrt(k[["nugget"]]),
    se = unname(sqrt(diag(if (inherits(fit, "lme")) fit$varFix else fit$varBeta))))
  if (inherits(fit, "lme")) out$sd_intercept <- as.numeric(VarCorr(fit)["(Intercept)", "StdDev"])
  out
}
tight <- list(tolerance = 1e-12, msTol = 1e-14, msMaxIter = 1000, maxIter = 1000, niterEM = 50)

d$time_factor <- numFactor(d$time)
a$visit_factor <- factor(a$visit, levels = 0:9)
seen <- d[!is.na(d$y), ]

entries <- list(
  entry("ou", "y ~ x + ou(time)", d, "y", "time", FALSE, "ou", c(1, 0.5, 0.3, 1, -0.7)),
  entry("ou_intercept", "y ~ x + ou(time) + (1 | id)", d, "y", "time", TRUE, "ou",
        c(1, 0.5, -0.2, 0.1, 0.7, -0.7)),
  entry("ar1_intercept", "y ~ x + ar1(visit) + (1 | id)", a, "y", "visit", TRUE, "ar1",
        c(2, -0.4, -0.3, 0, 0.8, -0.5)),
  entry("ar1", "y ~ x + ar1(visit)", a, "y", "visit", FALSE, "ar1", c(2, -0.4, 0.2, 0.8, -0.5)),
  entry("ar1_negative", "z ~ x + ar1(visit)", a, "z", "visit", FALSE, "ar1",
        c(1, 0.3, 0.2, -0.7, -0.5)))
names(entries) <- sapply(entries, `[[`, "id")

others <- list(
  ou = list(
    glmmTMB = of_tmb(tmb(y ~ x + ou(time_factor + 0 | id), d), "ou", FALSE),
    nlme = of_nlme(gls(y ~ x, seen, correlation = corExp(c(3, 0.2), ~ time | id, nugget = TRUE),
                       method = "ML", control = do.call(glsControl, tight[-5])))),
  ou_intercept = list(
    glmmTMB = of_tmb(tmb(y ~ x + (1 | id) + ou(time_factor + 0 | id), d), "ou", TRUE),
    nlme = of_nlme(lme(y ~ x, seen, random = ~ 1 | id, method = "ML",
                       correlation = corExp(c(2, 0.2), ~ time | id, nugget = TRUE),
                       control = do.call(lmeControl, tight)))),
  ar1_intercept = list(
    glmmTMB = of_tmb(tmb(y ~ x + (1 | id) + ar1(visit_factor + 0 | id), a), "ar1", TRUE)),
  ar1 = list(glmmTMB = of_tmb(tmb(y ~ x + ar1(visit_factor + 0 | id), a), "ar1", FALSE)),
  ar1_negative = list(
    glmmTMB = of_tmb(tmb(z ~ x + ar1(visit_factor + 0 | id), a), "ar1", FALSE)))

difference <- function(mine, other)
  c(log_likelihood = other$log_likelihood - mine$log_likelihood,
    fixef = max(abs(unlist(other$fixef) - unlist(mine$fixef))),
    unlist(lapply(intersect(names(mine), c("sd_path", "range", "rho", "sigma", "sd_intercept")),
                  function(k) setNames(other[[k]] - mine[[k]], k))))
for (id in names(others)) for (program in names(others[[id]])) {
  gap <- difference(entries[[id]], others[[id]][[program]])
  cat(id, program, "\n"); print(gap)
}
for (id in names(others)) entries[[id]]$others <- others[[id]]

# -- counts: glmmTMB, Laplace's approximation ------------------------------------------------------
# (With intercepts beside the path their SD is 0 here: no entry.)
counts <- tmb(count ~ x + ou(time_factor + 0 | id), d, poisson())
entries$poisson_ou <- c(list(id = "poisson_ou", formula = "count ~ x + ou(time)",
                             n = sum(!is.na(d$count)), likelihood = "laplace"),
                        of_tmb(counts, "ou", FALSE))

versions <- sapply(c("nlme", "glmmTMB", "TMB", "numDeriv"),
                   function(k) as.character(packageVersion(k)))
write(toJSON(list(R = R.version.string, packages = as.list(versions), refs = unname(entries)),
             digits = NA, auto_unbox = TRUE, pretty = TRUE), "ou.json")
