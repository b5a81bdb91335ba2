# Estimated marginal means, pairs and Kenward-Roger tests by emmeans, pbkrtest, lmerTest and lme4.
# Writes means.json. Run by `Rscript means.R FOLDER` in this folder, FOLDER holding the data sets as
# CSV files and crossed_gaussian.csv as tests/toys.py makes it (17 digits).
suppressMessages({library(lme4); library(lmerTest); library(pbkrtest); library(emmeans)
                  library(numDeriv); library(jsonlite)})
folder <- commandArgs(TRUE)[1]
read <- function(name) read.csv(file.path(folder, paste0(name, ".csv")), stringsAsFactors = TRUE)
emm_options(pbkrtest.limit = 1e4, lmerTest.limit = 1e4, cov.keep = character(0))
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-12, maxfun = 1e5))

# The fixed part of a GLMM at a maximum to full precision: Newton steps on the deviance in theta and
# beta, whose inverse half Hessian is the covariance.
polished <- function(m, nAGQ = 1) {
  f <- update(m, devFunOnly = TRUE, nAGQ = nAGQ,
              control = glmerControl(tolPwrss = 1e-13, optimizer = "bobyqa"))
  x <- c(getME(m, "theta"), fixef(m))
  for (i in 1:5) x <- x - solve(hessian(f, x), grad(f, x))
  H <- hessian(f, x) / 2
  b <- seq_along(x)[-seq_along(getME(m, "theta"))]
  list(coef = unname(x[b]), vcov = solve(H)[b, b], theta = unname(x[-b]))
}
rows <- function(m) lapply(seq_len(nrow(m)), function(i) unname(m[i, ]))
plain <- function(s) {
  s <- as.data.frame(s)
  s <- s[, sapply(s, function(x) is.numeric(x) || is.factor(x) || is.character(x))]
  lapply(as.list(s), function(x) if (is.factor(x)) as.character(x) else unname(x))
}
stored <- function(e, adjust = "tukey", ...) {
  list(means = plain(summary(e, infer = c(TRUE, FALSE))),
       pairs = plain(summary(pairs(e), infer = c(TRUE, TRUE), adjust = adjust, ...)))
}
kr <- function(m) {
  V <- vcovAdj(m)
  p <- length(fixef(m))
  terms <- attr(getME(m, "X"), "assign")
  joint <- lapply(unique(terms[terms > 0]), function(t) {
    s <- KRmodcomp(m, diag(p)[terms == t, , drop = FALSE])$stats
    list(F = s$Fstat, ddf = s$ddf, p = s$p.value)
  })
  list(coef = unname(fixef(m)), se = unname(sqrt(diag(as.matrix(V)))),
       df = sapply(1:p, function(j) Lb_ddf(diag(p)[j, ], vcov(m), V)), terms = joint)
}
out <- list()

# 1. Balanced but for five rows, a factor made of a number, interactions, within sex.
o <- read("orthodont")[-c(3, 17, 50, 51, 52), ]
o$Sex <- factor(o$Sex, c("Male", "Female")); o$visit <- factor(o$age)
m1 <- lme4::lmer(distance ~ visit * Sex + (1 | Subject), o, control = tight)
e1 <- emmeans(m1, ~ visit | Sex, lmer.df = "kenward-roger")
out$orthodont <- c(stored(e1), list(kr = kr(m1)))
out$orthodont$over <- stored(emmeans(m1, "Sex", lmer.df = "kenward-roger"))

# 2. Random slopes in unbalanced data, a covariate at two values; both kinds of df.
k <- read("milk"); k$Diet <- factor(k$Diet, c("barley", "barley+lupins", "lupins"))
m2 <- lme4::lmer(protein ~ Diet * Time + (1 | Cow), k, control = tight)
m2s <- lmerTest::lmer(protein ~ Diet * Time + (1 | Cow), k, control = tight)
at <- list(Time = c(2, 15))
out$milk <- c(stored(emmeans(m2, ~ Diet | Time, at = at, lmer.df = "kenward-roger")),
              list(kr = kr(m2)))
out$milk$satterthwaite <- stored(emmeans(m2s, ~ Diet | Time, at = at, lmer.df = "satterthwaite"),
                                 adjust = "holm")

# 3. Crossed factors.
d <- read("crossed_gaussian"); d$g <- factor(d$g); d$h <- factor(d$h)
d$arm <- factor(c("a", "b", "c")[1 + (seq_len(nrow(d)) * 7) %% 11 %% 3])
m3 <- lme4::lmer(y ~ arm + x + (1 | g) + (1 | h), d, control = tight)
out$crossed <- c(stored(emmeans(m3, "arm", lmer.df = "kenward-roger"), adjust = "bonferroni"),
                 list(kr = kr(m3)))

# 4. Two random effects.
s <- read("sleepstudy"); s$Subject <- factor(s$Subject)
m4 <- lme4::lmer(Reaction ~ Days + (Days | Subject), s, control = tight)
out$sleepstudy <- c(stored(emmeans(m4, "Days", at = list(Days = c(0, 3, 9)),
                                   lmer.df = "kenward-roger"), adjust = "none"), list(kr = kr(m4)))

# 5. Counts by Laplace's approximation: means, rate ratios, weights of the sample.
e <- read("epil")
e$trt <- factor(e$trt, c("placebo", "progabide")); e$visit <- factor(e$period)
m5 <- glmer(y ~ trt * visit + lbase + lage + (1 | subject), e, family = poisson)
p5 <- polished(m5)
q5 <- qdrg(~ trt * visit + lbase + lage, e, p5$coef, p5$vcov, df = Inf, link = "log")
e5 <- emmeans(q5, ~ visit | trt)
out$epil <- c(stored(e5, adjust = "tukey"), p5)
out$epil$ratios <- plain(summary(pairs(emmeans(q5, "trt")), type = "response", infer = c(TRUE, TRUE)))

# 6. Binary outcomes by Laplace's approximation, unbalanced: equal and proportional weights.
w <- read("contraception")
w$livch <- factor(w$livch); w$urban <- factor(w$urban)
w$use <- as.numeric(w$use == "Y")
m6 <- glmer(use ~ urban * livch + age + (1 | district), w, family = binomial)
p6 <- polished(m6)
q6 <- qdrg(~ urban * livch + age, w, p6$coef, p6$vcov, df = Inf, link = "logit")
out$contraception <- c(stored(emmeans(q6, "livch"), adjust = "none"), p6)
out$contraception$proportional <- stored(emmeans(q6, "livch", weights = "proportional"))
out$contraception$odds <- plain(summary(contrast(emmeans(q6, "livch"), "trt.vs.ctrl", adjust = "none"),
                                        type = "response", infer = c(TRUE, TRUE)))

packages <- c("emmeans", "lme4", "lmerTest", "pbkrtest")
versions <- c(list(R = paste(R.version$major, R.version$minor, sep = ".")),
              sapply(packages, function(p) as.character(packageVersion(p)), simplify = FALSE))
refs <- lapply(names(out), function(n) c(list(id = n), out[[n]]))
write(toJSON(list(versions = versions, refs = refs), digits = 17, auto_unbox = TRUE), "means.json")
