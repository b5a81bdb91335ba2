# Crossed factors g and h: lme4 and lmerTest, and the deviance functions of lme4 for what they do
# not report. Writes crossed.json. Run by `Rscript crossed.R FOLDER`, FOLDER holding the frames
# crossed_gaussian.csv and crossed_poisson.csv as tests/toys.py makes them (17 digits).
suppressMessages({library(lme4); library(lmerTest); library(numDeriv); library(jsonlite)})
folder <- commandArgs(TRUE)[1]
read <- function(name) read.csv(file.path(folder, name), colClasses = c(g = "factor", h = "factor"))
d <- read("crossed_gaussian.csv")
e <- read("crossed_poisson.csv")
q <- qchisq(0.95, 1)

# A minimum to full precision: BFGS, then Newton steps with Richardson derivatives.
polish <- function(f, x, steps = 6) {
  if (!length(x)) return(list(par = x, value = f(x), gradient = 0))
  safe <- function(v) tryCatch({  # a step too far is refused by a large value
    value <- f(v)
    if (is.finite(value)) value else 1e10
  }, error = function(e) 1e10)
  x <- optim(x, safe, method = "BFGS", control = list(reltol = 1e-14, maxit = 500))$par
  for (i in seq_len(steps)) {
    step <- solve(hessian(f, x), grad(f, x))
    if (f(x - step) > f(x) + 1e-9) break
    x <- x - step
    if (max(abs(step)) < 1e-10) break
  }
  list(par = x, value = f(x), gradient = max(abs(grad(f, x))))
}

# Ends of a profile interval: where the profile deviance is `lowest` + q.
ends <- function(profile, at, lowest, width, floor = -Inf) {
  gap <- function(v) profile(v) - lowest - q
  side <- function(sign) {
    far <- at + sign * width
    while (far > floor && gap(far) < 0) far <- far + sign * width
    if (far <= floor) {
      if (gap(floor) < 0) return(floor)
      far <- floor
    }
    uniroot(gap, sort(c(at, far)), tol = 1e-10)$root
  }
  c(side(-1), side(1))
}

# Minus twice the log-likelihood of lmer's model as a function of theta and sigma (beta is its
# maximum given them), from the factors of lme4's own devfun; REML: with log det R_X^2.
two_stage <- function(formula, data, REML, ...) {
  inner <- lme4::lmer(formula, data, REML = REML, devFunOnly = TRUE, ...)
  rho <- environment(inner)
  n <- nrow(data) - REML * ncol(rho$pp$X)
  function(theta, sigma) {
    inner(theta)
    rho$pp$ldL2() + REML * rho$pp$ldRX2() + n * log(2 * pi * sigma^2) +
      (rho$resp$wrss() + rho$pp$sqrL(1)) / sigma^2
  }
}
beta_at <- function(formula, data, theta) {  # generalised least squares at the variances of the fit
  inner <- lme4::lmer(formula, data, REML = FALSE, devFunOnly = TRUE)
  inner(theta)
  environment(inner)$pp$beta(1)
}
rows <- function(m) lapply(seq_len(nrow(m)), function(i) unname(m[i, ]))
cook <- function(change, V) unname(rowSums((change %*% solve(V)) * change) / ncol(V))
levels_in_order <- function(v) levels(v)[order(as.integer(levels(v)))]

# -- Gaussian --------------------------------------------------------------------------------------
form <- y ~ x + (1 | g) + (1 | h)
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-12, maxfun = 1e5))

gaussian <- function(REML) {
  start <- lme4::lmer(form, d, REML = REML, control = tight)
  th <- getME(start, "theta")  # of h, then of g
  dev <- two_stage(form, d, REML)
  f <- function(v) dev(exp(v[1:2] - v[3]), exp(v[3]))  # log SDs of h, of g, of the residual
  best <- polish(f, log(c(th, 1) * sigma(start)))
  v <- best$par
  theta <- exp(v[1:2] - v[3])
  fit <- lme4::lmer(form, d, REML = REML, start = list(theta = theta),
                    control = lmerControl(optimizer = NULL, calc.derivs = FALSE))
  stopifnot(abs(-2 * logLik(fit) - best$value) < 1e-9)
  effects <- ranef(fit, condVar = TRUE)
  list(best = best, f = f, fit = fit, theta = theta, entry = list(
    log_likelihood = -best$value / 2, max_abs_gradient = best$gradient,
    fixef = as.list(fixef(fit)), vcov = rows(as.matrix(vcov(fit))),
    sd = list(g = exp(v[2]), h = exp(v[1])), sigma = exp(v[3]),
    se_log_sd = {
      s <- sqrt(diag(2 * solve(hessian(f, v))))
      list(g = s[2], h = s[1], sigma = s[3])
    },
    ranef = lapply(c(g = "g", h = "h"), function(k) list(
      level = levels_in_order(d[[k]]),
      mean = effects[[k]][levels_in_order(d[[k]]), 1],
      variance = attr(effects[[k]], "postVar")[1, 1, match(levels_in_order(d[[k]]),
                                                           rownames(effects[[k]]))]))))
}

ml <- gaussian(FALSE)
reml <- gaussian(TRUE)
m <- ml$fit

v <- ml$best$par
free_of <- function(i) function(s) {  # profile of one SD, from lme4's deviance
  held <- if (s <= 0) -30 else log(s)
  g <- function(rest) { full <- v; full[i] <- held; full[-i] <- rest; ml$f(full) }
  polish(g, v[-i], 3)$value
}
with_beta <- function(j, value) {  # the deviance with one coefficient held
  held <- transform(d, left = value * if (j == 1) 1 else d$x)
  g <- if (j == 1) y ~ 0 + x + offset(left) + (1 | g) + (1 | h)
       else y ~ 1 + offset(left) + (1 | g) + (1 | h)
  dev <- two_stage(g, held, FALSE)
  polish(function(w) dev(exp(w[1:2] - w[3]), exp(w[3])), v, 3)$value
}
se <- unname(sqrt(diag(as.matrix(vcov(m)))))
exact <- list(
  sd_g = ends(free_of(2), exp(v[2]), ml$best$value, 0.5, 0),
  sd_h = ends(free_of(1), exp(v[1]), ml$best$value, 0.3, 0),
  sigma = ends(free_of(3), exp(v[3]), ml$best$value, 0.1, 0),
  `(Intercept)` = ends(function(b) with_beta(1, b), fixef(m)[[1]], ml$best$value, 2 * se[1]),
  x = ends(function(b) with_beta(2, b), fixef(m)[[2]], ml$best$value, 2 * se[2]))
lme4_intervals <- confint(lme4::lmer(form, d, REML = FALSE, control = tight), oldNames = FALSE,
                          quiet = TRUE)
rownames(lme4_intervals) <- c("sd_h", "sd_g", "sigma", "(Intercept)", "x")

without <- function(formula, data = d) {  # minus twice the log-likelihood, converged
  start <- lme4::lmer(formula, data, REML = FALSE, control = tight)
  dev <- two_stage(formula, data, FALSE)
  k <- length(getME(start, "theta"))
  polish(function(w) dev(exp(w[1:k] - w[k + 1]), exp(w[k + 1])),
         log(c(getME(start, "theta"), 1) * sigma(start)))$value
}
lrt <- function(value, df = 1) {
  s <- value - ml$best$value
  list(LRT = s, df = df, p = pchisq(s, df, lower.tail = FALSE))
}
no_g <- without(y ~ x + (1 | h))
no_h <- without(y ~ x + (1 | g))
again <- lmerTest::lmer(form, d, REML = FALSE)
r <- as.data.frame(ranova(again))

# Satterthwaite's df of lmerTest, and again at the polished maximum: with C(v) the covariance of
# beta-hat, g the gradient of its j-th diagonal entry and A the inverse information of v,
# df = 2 C_jj^2 / (g'A g); v are log SDs (at a maximum df does not depend on the coordinates).
satterthwaite_lmerTest <- summary(lmerTest::lmer(form, d))$coefficients[, "df"]
satterthwaite <- local({
  inner <- lme4::lmer(form, d, REML = TRUE, devFunOnly = TRUE)
  C <- function(v) {
    inner(exp(v[1:2] - v[3]))
    exp(2 * v[3]) * diag(environment(inner)$pp$unsc())
  }
  v <- reml$best$par
  A <- 2 * solve(hessian(reml$f, v))
  g <- jacobian(C, v)
  setNames(2 * C(v)^2 / rowSums((g %*% A) * g), names(satterthwaite_lmerTest))
})

influence_of <- function(k) {
  one <- t(sapply(levels_in_order(d[[k]]), function(l)
    beta_at(form, droplevels(d[d[[k]] != l, ]), ml$theta)))
  refit <- influence(lme4::lmer(form, d, REML = FALSE, control = tight), groups = k)
  full <- t(sapply(levels_in_order(d[[k]]), function(l)
    fixef(lme4::lmer(form, droplevels(d[d[[k]] != l, ]), REML = FALSE, control = tight))))
  theirs <- refit[[2]][rownames(full), ]
  stopifnot(max(abs(theirs - full)) < 1e-4)
  V <- as.matrix(vcov(m))
  b <- matrix(fixef(m), nrow(one), 2, byrow = TRUE)
  s <- matrix(sqrt(diag(V)), nrow(one), 2, byrow = TRUE)
  list(level = rownames(one),
       one_step = list(change = rows(b - one), cooks_distance = cook(b - one, V),
                       dfbetas = rows((b - one) / s)),
       refit = list(change = rows(b - full), cooks_distance = cook(b - full, V),
                    dfbetas = rows((b - full) / s),
                    # lme4 gives no names, in order of appearance, and scales by (n - p) / (n p), n
                    # the number of groups
                    cooks_distance_lme4 = unname(cooks.distance(refit))[match(rownames(full),
                                                                              refit$deleted)],
                    dfbetas_lme4 = rows(dfbetas(refit)[rownames(full), ])))
}

gaussian_entry <- list(
  id = "crossed_gaussian", formula = "y ~ x + (1 | g) + (1 | h)", n = nrow(d),
  ml = ml$entry,
  reml = c(reml$entry, list(satterthwaite_df = as.list(satterthwaite),
                              satterthwaite_df_lmerTest = as.list(satterthwaite_lmerTest))),
  drop1 = list(x = lrt(without(y ~ 1 + (1 | g) + (1 | h)))),
  ranova = list(g = lrt(no_g), h = lrt(no_h)),
  ranova_lmerTest = list(g = r["(1 | g)", "LRT"], h = r["(1 | h)", "LRT"]),
  nested = list(formula = "y ~ x + (1 | h)", log_likelihood = -no_g / 2, test = lrt(no_g)),
  nested_g = list(formula = "y ~ x + (1 | g)", log_likelihood = -no_h / 2, test = lrt(no_h)),
  refit = list(
    same = as.numeric(logLik(refit(lme4::lmer(form, d, REML = FALSE, control = tight), d$y))),
    plus_cosine = -without(z ~ x + (1 | g) + (1 | h), transform(d, z = y + cos(0:119))) / 2),
  profile = exact,
  profile_lme4 = split(lme4_intervals, rownames(lme4_intervals)),
  influence = list(g = influence_of("g"), h = influence_of("h")))

# -- Poisson ---------------------------------------------------------------------------------------
pform <- c ~ x + (1 | g) + (1 | h)
ptight <- glmerControl(optimizer = "bobyqa", tolPwrss = 1e-13,
                       optCtrl = list(rhoend = 1e-11, maxfun = 1e5))
# Laplace's deviance in (theta, beta) on the design of lme4, modes by Newton steps to the end. glmer's
# own stops where the penalised deviance stands still, when its log determinant does not yet: at the
# default tolPwrss = 1e-7 it is 1e-5 off, with jumps that numerical second derivatives do not bear.
laplace <- function(formula, data) {
  parts <- glFormula(formula, data, family = poisson)
  X <- parts$X
  y <- model.response(parts$fr)
  Z <- as.matrix(t(parts$reTrms$Zt))
  u <- numeric(ncol(Z))
  function(w) {
    k <- length(parts$reTrms$theta)
    spread <- w[seq_len(k)][parts$reTrms$Lind]  # the diagonal of Lambda
    A <- sweep(Z, 2, spread, `*`)
    fixed <- drop(X %*% w[-seq_len(k)])
    height <- function(u) sum(dpois(y, exp(fixed + A %*% u), log = TRUE)) - sum(u^2) / 2
    if (!all(is.finite(u)) || !is.finite(height(u))) u <<- numeric(length(u))
    for (i in 1:100) {
      mu <- drop(exp(fixed + A %*% u))
      step <- solve(crossprod(A, mu * A) + diag(length(u)), crossprod(A, y - mu) - u)
      while (!isTRUE(height(u + step) >= height(u) - 1e-9)) {
        step <- step / 2
        if (max(abs(step)) < 1e-20) stop("no mode")
      }
      u <<- drop(u + step)
      if (max(abs(step)) < 1e-11) break
    }
    mu <- drop(exp(fixed + A %*% u))
    P <- crossprod(A, mu * A) + diag(length(u))
    structure(-2 * height(u) + 2 * sum(log(diag(chol(P)))), mode = spread * u,
              variance = spread^2 * diag(solve(P)))
  }
}
start_of <- function(formula, data) {
  fit <- lme4::glmer(formula, data, family = poisson, control = ptight)
  c(getME(fit, "theta"), fixef(fit))
}
best_poisson <- function(formula, data = e, start = start_of(formula, data)) {
  dev <- laplace(formula, data)
  k <- length(findbars(formula))
  f <- function(w) as.numeric(dev(c(exp(w[seq_len(k)]), w[-seq_len(k)])))
  w <- c(log(start[seq_len(k)]), start[-seq_len(k)])
  c(polish(f, w), list(f = f))
}
p <- best_poisson(pform)
w <- p$par
names(w) <- c("h", "g", "(Intercept)", "x")
H <- 2 * solve(hessian(p$f, w))
at_best <- laplace(pform, e)(c(exp(w[1:2]), w[3:4]))  # effects of h, then of g
own <- list(h = seq_len(nlevels(e$h)), g = nlevels(e$h) + seq_len(nlevels(e$g)))

plrt <- function(value) {
  s <- value - p$value
  list(LRT = s, df = 1, p = pchisq(s, 1, lower.tail = FALSE))
}
pno_g <- best_poisson(c ~ x + (1 | h))$value
pno_h <- best_poisson(c ~ x + (1 | g))$value
pprofile <- function(i, log_scale) function(s) {
  held <- if (!log_scale) s else if (s <= 0) -30 else log(s)
  g <- function(rest) { full <- w; full[i] <- held; full[-i] <- rest; p$f(full) }
  polish(g, w[-i], 3)$value
}
pexact <- list(
  sd_g = ends(pprofile(2, TRUE), exp(w[["g"]]), p$value, 0.3, 0),
  sd_h = ends(pprofile(1, TRUE), exp(w[["h"]]), p$value, 0.15, 0),
  `(Intercept)` = ends(pprofile(3, FALSE), w[[3]], p$value, 2 * sqrt(H[3, 3])),
  x = ends(pprofile(4, FALSE), w[[4]], p$value, 2 * sqrt(H[4, 4])))
ptheirs <- confint(lme4::glmer(pform, e, family = poisson), method = "profile", oldNames = FALSE,
                   quiet = TRUE)
rownames(ptheirs) <- c("sd_h", "sd_g", "(Intercept)", "x")

pinfluence <- function(k) {
  V <- H[3:4, 3:4]
  change <- lapply(levels_in_order(e[[k]]), function(l) {
    data <- droplevels(e[e[[k]] != l, ])
    dev <- laplace(pform, data)
    fixed <- polish(function(b) as.numeric(dev(c(exp(w[1:2]), b))), w[3:4])$par
    list(fixed = w[3:4] - fixed, refit = w[3:4] - best_poisson(pform, data)$par[3:4])
  })
  s <- matrix(sqrt(diag(V)), length(change), 2, byrow = TRUE)
  table <- function(kind) {
    D <- t(sapply(change, `[[`, kind))
    list(change = rows(D), cooks_distance = cook(D, V), dfbetas = rows(D / s))
  }
  list(level = levels_in_order(e[[k]]), fixed_variances = table("fixed"), refit = table("refit"))
}
theirs <- lme4::glmer(pform, e, family = poisson, control = ptight)

poisson_entry <- list(
  id = "crossed_poisson", formula = "c ~ x + (1 | g) + (1 | h)", n = nrow(e),
  laplace = list(
    log_likelihood = -p$value / 2, max_abs_gradient = p$gradient,
    log_likelihood_lme4 = as.numeric(logLik(theirs)),
    log_likelihood_lme4_default = as.numeric(logLik(lme4::glmer(pform, e, family = poisson))),
    fixef = as.list(w[3:4]), vcov = rows(unname(H[3:4, 3:4])),
    vcov_lme4_rx = rows(unname(as.matrix(vcov(theirs, use.hessian = FALSE)))),
    sd = list(g = exp(w[["g"]]), h = exp(w[["h"]])),
    se_log_sd = list(g = sqrt(H[2, 2]), h = sqrt(H[1, 1])),
    ranef = lapply(c(g = "g", h = "h"), function(k) {
      place <- own[[k]][match(levels_in_order(e[[k]]), levels(e[[k]]))]
      list(level = levels_in_order(e[[k]]), mode = attr(at_best, "mode")[place],
           variance = attr(at_best, "variance")[place])
    })),
  drop1 = list(x = plrt(best_poisson(c ~ 1 + (1 | g) + (1 | h))$value)),
  ranova = list(g = plrt(pno_g), h = plrt(pno_h)),
  refit = list(
    plus_odd = -best_poisson(z ~ x + (1 | g) + (1 | h), transform(e, z = c + 0:199 %% 2))$value / 2),
  profile = pexact,
  profile_lme4 = split(ptheirs, rownames(ptheirs)),
  influence = list(g = pinfluence("g"), h = pinfluence("h")))

versions <- sapply(c("lme4", "lmerTest", "numDeriv", "Matrix"),
                   function(k) as.character(packageVersion(k)))
write(toJSON(list(R = R.version.string, packages = as.list(versions),
                  refs = list(gaussian_entry, poisson_entry)),
             digits = NA, auto_unbox = TRUE, pretty = TRUE), "crossed.json")
