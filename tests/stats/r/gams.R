# Writes gams.json beside itself: what mgcv says of data that are written along. Rscript tests/stats/r/gams.R
suppressMessages({library(mgcv); library(jsonlite)})
here <- dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE)))
set.seed(20)
wave <- function(x) sin(2 * pi * x)
make <- function(x, sd = 0.3, f = wave) data.frame(x = x, y = f(x) + rnorm(length(x), sd = sd))
uneven <- make(sort(rexp(90)) / 4)
ties <- make(round(runif(120), 1))
few <- make(sample(seq(0, 1, length.out = 7), 80, TRUE))
noise <- data.frame(x = runif(100), y = rnorm(100))
line <- make(runif(70), f = function(x) 2 * x)
two <- data.frame(x = runif(150), w = runif(150)); two$y <- wave(two$x) + two$w^2 + rnorm(150, sd = 0.3)
by <- data.frame(x = runif(160), g = factor(sample(c("a", "b"), 160, TRUE)))
by$y <- ifelse(by$g == "a", wave(by$x), by$x) + rnorm(160, sd = 0.3)
short <- make(log10(1 + c(0, 2^(0:9), 1e3, 1e4, 5e4, 1e5, 143e3)) / 5, sd = 0.05)
cases <- list()
add <- function(name, formula, data, ...) for (method in c("GCV.Cp", "REML")) {
  fit <- gam(as.formula(formula), data = data, method = method); s <- summary(fit)
  p <- predict(fit, se.fit = TRUE)
  cases[[length(cases) + 1]] <<- list(name = name, formula = formula, method = method, data = as.list(data),
    edf = as.numeric(s$edf), ref_df = as.numeric(s$s.table[, 2]), f = as.numeric(s$s.table[, 3]),
    p = as.numeric(s$s.table[, 4]), intercept = as.numeric(s$p.table[1, 1:2]), r_sq = s$r.sq, dev = s$dev.expl,
    score = as.numeric(fit$gcv.ubre), scale = s$scale, fitted = as.numeric(p$fit), se = as.numeric(p$se.fit))
}
add("uneven x", "y ~ s(x)", uneven); add("k = 3", "y ~ s(x, k=3)", uneven); add("k = 30", "y ~ s(x, k=30)", uneven)
add("ties", "y ~ s(x, k=8)", ties); add("as many unique x as k", "y ~ s(x, k=7)", few)
add("noise", "y ~ s(x)", noise); add("a line", "y ~ s(x)", line); add("a run's steps", "y ~ s(x, k=10)", short)
add("two smooths", "y ~ s(x) + s(w)", two); add("a smooth and a term", "y ~ s(x) + w", two)
add("by a factor", "y ~ g + s(x, by=g)", by)
add("cubic regression", "y ~ s(x, bs='cr')", uneven); add("cubic regression, k = 5", "y ~ s(x, bs='cr', k=5)", ties)
write(toJSON(list(mgcv = as.character(packageVersion("mgcv")), cases = cases), digits = NA, auto_unbox = TRUE), file.path(here, "gams.json"))
