# Rscript published_fits.R CASES.json ANSWERS.json: seconds of fit + summary, and the estimates. Called by published_fits.py.
suppressMessages({library(lme4); library(lmerTest); library(mgcv); library(jsonlite)})
files <- commandArgs(trailingOnly = TRUE)
cases <- fromJSON(files[1], simplifyDataFrame = FALSE)
fit <- list(
  REML = function(formula, data) summary(lmerTest::lmer(formula, data, REML = TRUE)),
  ML = function(formula, data) summary(lmerTest::lmer(formula, data, REML = FALSE)),
  GCV = function(formula, data) summary(gam(formula, data = data)),
  OLS = function(formula, data) summary(lm(formula, data))
)
estimates <- function(s) if (inherits(s, "summary.gam")) c(s$p.coeff, s$edf) else coef(s)[, 1]
answers <- lapply(cases, function(case) {
  data <- as.data.frame(read.csv(case$file, stringsAsFactors = TRUE))
  parts <- if (is.null(case$by)) list(data) else split(data, factor(data[[case$by]], unique(data[[case$by]])))
  once <- function() suppressMessages(suppressWarnings(
    lapply(parts, function(part) fit[[case$method]](as.formula(case$formula), part))))
  seconds <- system.time(found <- once())[["elapsed"]]
  list(seconds = seconds, estimates = unname(unlist(lapply(found, estimates))))
})
write(toJSON(answers, digits = I(15), auto_unbox = TRUE), files[2])
