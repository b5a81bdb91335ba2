# Two Gaussian outcomes with correlated random intercepts and slopes: stacked rows.
# nlme and glmmTMB beside each other; Rscript several.R writes several.json
suppressMessages({library(nlme); library(glmmTMB); library(jsonlite)})
wide <- read.csv("several.csv")
long <- rbind(
  data.frame(id = wide$id, group = wide$group, time = wide$time, what = "a", y = wide$y1),
  data.frame(id = wide$id, group = wide$group, time = wide$time, what = "b", y = wide$y2)
)
long <- long[!is.na(long$y), ]
long$what <- factor(long$what)
long$a <- as.numeric(long$what == "a"); long$b <- 1 - long$a
stacked <- lme(y ~ 0 + a + a:time + a:group + b + b:time, data = long, method = "ML",
  random = ~ 0 + a + a:time + b + b:time | id, weights = varIdent(form = ~ 1 | what),
  control = lmeControl(maxIter = 500, msMaxIter = 500, opt = "nlminb", msTol = 1e-12, tolerance = 1e-10))
by_reml <- update(stacked, method = "REML")
tmb <- glmmTMB(y ~ 0 + a + a:time + a:group + b + b:time + (0 + a + a:time + b + b:time | id),
  dispformula = ~ 0 + what, data = long, REML = FALSE)
out <- list(
  lme = list(logLik = as.numeric(logLik(stacked)), fixef = as.list(fixef(stacked)),
    D = matrix(as.numeric(getVarCov(stacked)), 4), names = colnames(getVarCov(stacked)),
    sigma = as.list(stacked$sigma * coef(stacked$modelStruct$varStruct, unconstrained = FALSE, allCoef = TRUE))),
  reml = list(logLik = as.numeric(logLik(by_reml)), fixef = as.list(fixef(by_reml))),
  glmmTMB = list(logLik = as.numeric(logLik(tmb)), fixef = as.list(fixef(tmb)$cond),
    se = as.list(sqrt(diag(vcov(tmb)$cond))))
)
write_json(out, "several.json", digits = 12, auto_unbox = TRUE, pretty = TRUE)
