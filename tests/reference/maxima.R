# Maxima to full precision; sourced by serial.R and structures.R.
rows <- function(m) lapply(seq_len(nrow(m)), function(i) unname(m[i, ]))

# A minimum by Newton steps; derivatives by Richardson's extrapolation unless they are given.
newton <- function(f, x, gradient = function(v) grad(f, v), curvature = function(v) hessian(f, v)) {
  for (i in 1:12) {
    step <- solve(curvature(x), gradient(x))
    x <- x - step
    if (max(abs(step)) < 1e-9) break
  }
  list(par = x, value = as.numeric(f(x)), gradient = max(abs(gradient(x))),
       vcov = solve(curvature(x)))
}

# Minus the (restricted) log-likelihood of w, beta profiled out: parts are lists with y, X and what
# V(part, w) needs. REML as lme4 and glmmTMB have it, about X as written.
profiled <- function(parts, V, reml = FALSE) {
  p <- ncol(parts[[1]]$X)
  function(w, all = FALSE) {
    A <- matrix(0, p, p); b <- numeric(p); total <- 0; N <- 0
    for (s in parts) {
      C <- chol(V(s, w))
      X <- forwardsolve(t(C), s$X); y <- forwardsolve(t(C), s$y)
      A <- A + crossprod(X); b <- b + drop(crossprod(X, y))
      total <- total + sum(y^2) + 2 * sum(log(diag(C))); N <- N + length(y)
    }
    beta <- solve(A, b)
    total <- total - sum(b * beta) + (N - reml * p) * log(2 * pi)
    if (reml) total <- total + as.numeric(determinant(A)$modulus)
    if (all) list(beta = beta, vcov = solve(A)) else 0.5 * total
  }
}

# The best of several starts, polished: log-likelihood, fixed effects, SEs of both kinds, parameters.
# `named` turns w into the reported parameters, `scale` names the working ones.
maximum <- function(parts, V, starts, named, working, reml = FALSE) {
  f <- profiled(parts, V, reml)
  safe <- function(w) tryCatch(f(w), error = function(e) 1e10)  # a step too far
  found <- lapply(starts, function(w)
    optim(w, safe, method = "BFGS", control = list(reltol = 1e-14, maxit = 1000)))
  w <- found[[which.min(sapply(found, `[[`, "value"))]]$par
  best <- newton(f, w)
  at <- f(best$par, all = TRUE)
  list(log_likelihood = -best$value, max_abs_gradient = best$gradient,
       fixef = unname(at$beta), se_gls = unname(sqrt(diag(at$vcov))),
       parameters = as.list(named(best$par)), w = as.list(best$par),
       se_working = as.list(setNames(sqrt(diag(best$vcov)), working)))
}

# glmmTMB: its own objective, gradient and Laplace approximation, polished.
polished_tmb <- function(formula, data, family = gaussian(), REML = FALSE) {
  fit <- glmmTMB(formula, data, family = family, REML = REML)
  gradient <- function(v) as.vector(fit$obj$gr(v))
  curvature <- function(v) { H <- jacobian(gradient, v, method = "simple"); (H + t(H)) / 2 }
  best <- newton(fit$obj$fn, fit$fit$par, gradient, curvature)
  out <- list(log_likelihood = -best$value, log_likelihood_default = -fit$fit$objective,
              max_abs_gradient = best$gradient)
  v <- best$par
  if (!REML) {
    H <- jacobian(gradient, v)
    se <- sqrt(diag(solve((H + t(H)) / 2)))
    out$fixef <- unname(v[names(v) == "beta"])
    out$se_full <- unname(se[names(v) == "beta"])
  } else {
    out$fixef <- unname(fixef(fit)$cond)
  }
  out$theta <- unname(v[names(v) == "theta"])
  if (any(names(v) == "betad")) out$sigma <- unname(exp(0.5 * v[names(v) == "betad"]))
  out
}

stored <- function(packages, refs, file) {
  versions <- sapply(packages, function(k) as.character(packageVersion(k)))
  write(toJSON(list(R = R.version.string, packages = as.list(versions), refs = unname(refs)),
               digits = NA, auto_unbox = TRUE, pretty = TRUE), file)
}
