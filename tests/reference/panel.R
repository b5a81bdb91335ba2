# Estimators of panels by plm, on data/grunfeld.csv (whole, and without the rows of `left_out`) and on
# data/psid7682.csv. Writes panel.json. Run by `Rscript panel.R` in this folder.
suppressMessages({library(plm); library(lme4); library(jsonlite)})
firms <- read.csv("../../data/grunfeld.csv")
wages <- read.csv("../../data/psid7682.csv", stringsAsFactors = TRUE)
left_out <- c(3, 4, 25, 60, 61, 62, 100, 150, 151)

told <- function(m) list(
  names = names(coef(m)), estimate = unname(coef(m)), std_error = unname(sqrt(diag(vcov(m)))),
  robust = unname(sqrt(diag(vcovHC(m, method = "arellano", type = "HC0")))))

of_firms <- function(data) {
  fit <- function(model, formula = inv ~ value + capital)
    plm(formula, data, index = c("firm", "year"), model = model)
  random <- fit("random")
  list(within = told(fit("within")), random = told(random),
       differences = told(fit("fd", inv ~ value + capital - 1)),
       sd = unname(sqrt(random$ercomp$sigma2)),
       hausman = unname(phtest(fit("within"), random)$statistic),
       ml = by_lmer(data, FALSE), reml = by_lmer(data, TRUE))
}

by_lmer <- function(data, reml) {
  data <- transform(data, m_value = ave(value, firm), m_capital = ave(capital, firm))
  m <- lmer(inv ~ value + capital + m_value + m_capital + (1 | firm), data, REML = reml,
            control = lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-14, ftol_abs = 1e-14)))
  list(log_likelihood = as.numeric(logLik(m)), estimate = unname(fixef(m)),
       std_error = unname(sqrt(diag(as.matrix(vcov(m))))))
}

wages$occupation <- relevel(wages$occupation, "white")
within <- plm(log(wage) ~ experience + I(experience^2) + weeks + occupation + industry + south +
                smsa + married + union, wages, index = c("id", "year"), model = "within")
out <- list(
  versions = list(R = R.version.string, plm = as.character(packageVersion("plm"))),
  refs = list(c(list(id = "grunfeld"), of_firms(firms)),
              c(list(id = "grunfeld_unbalanced", left_out = left_out), of_firms(firms[-left_out, ])),
              list(id = "psid7682", within = told(within))))
write(toJSON(out, digits = NA, auto_unbox = TRUE, pretty = TRUE), "panel.json")
