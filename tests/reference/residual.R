# Two Gaussian outcomes: one coefficient in common, and residuals correlated on the same row.
# Rscript residual.R writes residual.csv and residual.json
suppressMessages({library(nlme); library(jsonlite)})
set.seed(15)
n <- 50; visits <- 6
wide <- data.frame(id = rep(sprintf("s%02d", 1:n), each = visits), time = rep(0:(visits - 1), n),
  group = rep(rbinom(n, 1, 0.5), each = visits))
u <- matrix(rnorm(2 * n), n) %*% chol(matrix(c(1, 0.3, 0.3, 0.6), 2))
e <- matrix(rnorm(2 * n * visits), n * visits) %*% chol(matrix(c(0.64, 0.24, 0.24, 0.25), 2))
who <- rep(1:n, each = visits)
wide$y1 <- round(1 + 0.3 * wide$time + 0.5 * wide$group + u[who, 1] + e[, 1], 4)
wide$y2 <- round(4 + 0.25 * wide$time - 0.2 * wide$group + u[who, 2] + e[, 2], 4)
wide$y1[runif(n * visits) < 0.15] <- NA
wide$y2[runif(n * visits) < 0.2] <- NA
write.csv(wide, "residual.csv", row.names = FALSE, quote = FALSE)

long <- rbind(
  data.frame(wide[c("id", "group", "time")], what = "a", y = wide$y1),
  data.frame(wide[c("id", "group", "time")], what = "b", y = wide$y2)
)
long <- long[!is.na(long$y), ]
long$what <- factor(long$what)
long$k <- as.integer(long$what)
long$a <- as.numeric(long$what == "a"); long$b <- 1 - long$a
long <- long[order(long$id, long$time, long$k), ]
control <- lmeControl(maxIter = 500, msMaxIter = 1000, msMaxEval = 2000, opt = "nlminb", msTol = 1e-13,
  tolerance = 1e-11, niterEM = 50)
apart <- y ~ 0 + a + a:time + a:group + b + b:time + b:group
fitted <- function(formula, correlation, method = "ML")
  lme(formula, data = long, method = method, random = ~ 0 + a + b | id,
    weights = varIdent(form = ~ 1 | what), correlation = correlation, control = control)
told <- function(fit) {
  rho <- if (is.null(fit$modelStruct$corStruct)) NULL else
    unname(coef(fit$modelStruct$corStruct, unconstrained = FALSE))
  list(logLik = as.numeric(logLik(fit)), df = attr(logLik(fit), "df"), fixef = as.list(fixef(fit)),
    rho = rho,
    sigma = as.list(fit$sigma * coef(fit$modelStruct$varStruct, unconstrained = FALSE, allCoef = TRUE)),
    D = matrix(as.numeric(getVarCov(fit)), 2))
}
rows <- corSymm(form = ~ k | id/time)
out <- list(
  shared = told(fitted(y ~ 0 + a + b + time + a:group + b:group, NULL)),
  rescor = told(fitted(apart, rows)),
  both = told(fitted(y ~ 0 + a + b + time + a:group + b:group, rows)),
  reml = told(fitted(apart, rows, "REML"))
)
write_json(out, "residual.json", digits = 12, auto_unbox = TRUE, pretty = TRUE)
