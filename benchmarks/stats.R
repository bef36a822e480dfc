# Rscript stats.R CASES.json TIMES.json: seconds of every repetition of fit + summary. Called by benchmarks/stats.py.
suppressMessages({library(lme4); library(lmerTest); library(mgcv); library(jsonlite)})
files <- commandArgs(trailingOnly = TRUE)
cases <- fromJSON(files[1], simplifyDataFrame = FALSE)
fit <- list(
  lmm = function(formula, data, reml) summary(lmerTest::lmer(formula, data, REML = reml)),
  gam = function(formula, data, reml) summary(gam(formula, data = data, method = if (reml) "REML" else "GCV.Cp"))
)
times <- lapply(cases, function(case) {
  data <- as.data.frame(read.csv(case$file, stringsAsFactors = TRUE))
  once <- function() system.time(suppressMessages(suppressWarnings(
    fit[[case$kind]](as.formula(case$formula), data, case$reml))))[["elapsed"]]
  I(replicate(case$repeats, once()))
})
write(toJSON(times, digits = 6), files[2])
