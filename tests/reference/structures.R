# Structured covariances of random effects, us, diag, cs and ar1, with one variance or one per column:
# glmmTMB, lme4's deviance function at the Lambda of lme4 2.0's structures, and a dense normal density
# maximised to full precision, on occasions.csv (recipe: occasions_frame in tests/toys.py). Writes
# structures.json. Run by `Rscript structures.R` in this folder.
suppressMessages({library(lme4); library(glmmTMB); library(numDeriv); library(jsonlite)})
source("maxima.R")
d <- transform(read.csv("occasions.csv"), id = factor(id), occasion = factor(occasion),
               item = factor(item))

# -- the structures: w holds log SDs (one or q) and a working correlation -----------------------------
lowest <- function(q) -1 / (q - 1)
correlation <- list(
  diag = function(q, w) diag(q),
  cs = function(q, w) { r <- lowest(q) + (1 - lowest(q)) * plogis(w); diag(1 - r, q) + r },
  ar1 = function(q, w) tanh(w)^abs(outer(1:q, 1:q, "-")))
value <- list(cs = function(q, w) lowest(q) + (1 - lowest(q)) * plogis(w),
              ar1 = function(q, w) tanh(w))
taken_apart <- function(structure, q, hom, w) {
  s <- if (hom) 1 else q
  list(sd = rep(exp(w[1:s]), length.out = q), w = if (structure == "diag") NULL else w[s + 1])
}
D_of <- function(structure, q, hom, w) {
  at <- taken_apart(structure, q, hom, w)
  correlation[[structure]](q, at$w) * outer(at$sd, at$sd)
}
named_of <- function(structure, q, hom) function(w) {
  at <- taken_apart(structure, q, hom, w)
  out <- list(sd = if (hom) at$sd[1] else at$sd, sigma = exp(w[length(w)]))
  if (structure != "diag") out$rho <- value[[structure]](q, at$w)
  out
}
working_of <- function(structure, q, hom)
  c(paste0("log_sd", seq_len(if (hom) 1 else q)), if (structure != "diag") "working_rho", "log_sigma")

# -- lme4: its deviance function for (T | id), theta from the structure relative to sigma ---------------
# lme4 2.0 forms Lambda from SDs and a correlation as here and maximises the same function.
of_lme4 <- function(formula, structure, q, hom, w, reml) {
  parsed <- lFormula(formula, d, REML = reml)
  deviance <- do.call(mkLmerDevfun, parsed)
  lower <- lower.tri(diag(q), diag = TRUE)
  at <- function(v) {
    L <- t(chol(D_of(structure, q, hom, v)))
    as.numeric(deviance(L[lower]))
  }
  relative <- w[-length(w)]
  sds <- seq_len(if (hom) 1 else q)
  relative[sds] <- relative[sds] - w[length(w)]
  best <- newton(at, relative)
  best$value <- at(best$par)
  list(log_likelihood = -0.5 * best$value, max_abs_gradient = best$gradient)
}

entry <- function(id, outcome, T, bar, structure, hom, reml = FALSE, tmb = NULL) {
  fixed <- ~ x + occasion
  if (outcome == "z") fixed <- ~ x
  if (bar != "occasion") fixed <- ~ x + t
  parts <- lapply(split(d, d$id), function(s)
    list(y = s[[outcome]], X = model.matrix(fixed, s), T = model.matrix(T, s)))
  q <- ncol(parts[[1]]$T)
  V <- function(s, w) s$T %*% D_of(structure, q, hom, w) %*% t(s$T) +
    diag(exp(2 * w[length(w)]), length(s$y))
  s <- rep(0, if (hom) 1 else q)
  starts <- if (structure == "diag") list(c(s, -0.5))
    else lapply(c(-1, 0.3, 1.2), function(r) c(s, r, -0.5))
  found <- maximum(parts, V, starts, named_of(structure, q, hom), working_of(structure, q, hom), reml)
  right <- paste(deparse(fixed[[2]]), collapse = "")
  lmer_formula <- as.formula(paste(outcome, "~", right, "+ (", deparse(T[[2]]), "| id)"))
  w <- found$working
  out <- c(list(id = id, formula = paste0(outcome, " ~ ", right, " + ", structure, "(",
                                          deparse(T[[2]]), " | id", if (hom) ", hom = TRUE" else
                                          if (structure == "ar1") ", hom = FALSE" else "", ")"),
                n = nrow(d), reml = reml), found)
  others <- list()
  others$lme4 <- of_lme4(lmer_formula, structure, q, hom, unlist(found$w), reml)
  if (!is.null(tmb)) others$glmmTMB <- polished_tmb(as.formula(paste(outcome, "~", right, "+", tmb)),
                                                    d, REML = reml)
  out$w <- NULL
  c(out, list(others = others))
}
occasions <- ~ 0 + occasion
line <- ~ 1 + t
refs <- list(
  entry("diag", "y", occasions, "occasion", "diag", FALSE, tmb = "diag(0 + occasion | id)"),
  entry("diag_hom", "y", occasions, "occasion", "diag", TRUE),
  entry("cs", "y", occasions, "occasion", "cs", FALSE, tmb = "cs(0 + occasion | id)"),
  entry("cs_hom", "y", occasions, "occasion", "cs", TRUE),
  entry("ar1", "z", occasions, "occasion", "ar1", TRUE, tmb = "ar1(0 + occasion | id)"),
  entry("ar1_het", "y", occasions, "occasion", "ar1", FALSE),
  entry("cs_reml", "y", occasions, "occasion", "cs", FALSE, TRUE, tmb = "cs(0 + occasion | id)"),
  entry("ar1_reml", "z", occasions, "occasion", "ar1", TRUE, TRUE, tmb = "ar1(0 + occasion | id)"),
  entry("cs_line", "y", line, "line", "cs", FALSE, tmb = "cs(1 + t | id)"),
  entry("diag_line", "y", line, "line", "diag", FALSE, tmb = "diag(1 + t | id)"),
  entry("cs_hom_line", "y", line, "line", "cs", TRUE))

# -- free covariances, several factors, counts: glmmTMB ------------------------------------------------
whole <- function(id, formula, ours, family = gaussian(), REML = FALSE)
  c(list(id = id, formula = ours, n = nrow(d), reml = REML),
    polished_tmb(formula, d, family, REML))
us <- lmer(y ~ x + occasion + (0 + occasion | id), d, REML = FALSE,
           control = lmerControl(optCtrl = list(xtol_rel = 1e-12, ftol_abs = 1e-12)))
refs <- c(refs, list(
  c(whole("us", y ~ x + occasion + us(0 + occasion | id), "y ~ x + occasion + us(0 + occasion | id)"),
    list(lme4 = as.numeric(logLik(us)))),
  whole("crossed_cs", z ~ x + cs(0 + occasion | id) + (1 | item),
        "z ~ x + cs(0 + occasion | id) + (1 | item)"),
  whole("crossed_ar1", z ~ x + ar1(0 + occasion | id) + (1 | item),
        "z ~ x + ar1(0 + occasion | id) + (1 | item)"),
  whole("crossed_cs_reml", z ~ x + cs(0 + occasion | id) + (1 | item),
        "z ~ x + cs(0 + occasion | id) + (1 | item)", REML = TRUE),
  whole("poisson_cs", count ~ x + cs(0 + occasion | id), "count ~ x + cs(0 + occasion | id)",
        poisson()),
  whole("poisson_cs_line", count ~ x + t + cs(1 + t | id), "count ~ x + t + cs(1 + t | id)",
        poisson()),
  whole("poisson_ar1", count ~ x + ar1(0 + occasion | id), "count ~ x + ar1(0 + occasion | id)",
        poisson()),
  whole("poisson_diag", count ~ x + diag(0 + occasion | id), "count ~ x + diag(0 + occasion | id)",
        poisson()),
  whole("poisson_crossed_cs", count ~ x + cs(0 + occasion | id) + (1 | item),
        "count ~ x + cs(0 + occasion | id) + (1 | item)", poisson())))
for (r in refs) {
  cat(r$id, format(r$log_likelihood, digits = 15), r$max_abs_gradient, unlist(r$parameters), "\n")
  for (k in names(r$others))
    cat("   ", k, format(r$others[[k]]$log_likelihood - r$log_likelihood, digits = 4), "\n")
}
stored(c("lme4", "glmmTMB", "TMB", "numDeriv"), refs, "structures.json")
