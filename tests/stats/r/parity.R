# Rscript parity.R JOBS.json ANSWERS.json: fits every job's formula to its data. Called by tests/stats/parity.py.
suppressMessages({library(lme4); library(lmerTest); library(mgcv); library(jsonlite)})
here <- dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE)))
source(file.path(here, "describe.R")); source(file.path(here, "describe_gam.R"))
files <- commandArgs(trailingOnly = TRUE)
jobs <- fromJSON(files[1], simplifyDataFrame = FALSE)
answers <- lapply(jobs, function(job) {
  data <- as.data.frame(job$data, stringsAsFactors = TRUE)
  if (grepl("s(", job$formula, fixed = TRUE)) describe_gam(job$formula, data, job$method)
  else if (job$method == "OLS") describe_ols("data", job$formula, data)
  else describe_lmm("data", job$formula, data, job$method == "REML")
})
write(toJSON(answers, auto_unbox = TRUE, digits = 15, na = "null", null = "null"), files[2])
