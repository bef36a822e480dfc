# Writes smooths.json beside itself: random effects, curves by groups, cyclic curves, surfaces and autocorrelated errors, as mgcv
# fits them.
#   Rscript tests/stats/r/smooths.R
# Debian: r-cran-mgcv r-cran-jsonlite

suppressMessages({library(mgcv); library(jsonlite)})
here <- dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE)))
source(file.path(here, "describe_gam.R"))
set.seed(14)

# Curves by groups penalise the constants and the slopes of the levels separately, along two directions that mgcv's eigenvectors
# choose as rounding has it. `fsc` is mgcv's `fs` with the directions that headway takes: the constant, and the line about the
# mean of x.
smooth.construct.fsc.smooth.spec <- function(object, data, knots) {
  class(object) <- "fs.smooth.spec"
  o <- smooth.construct(object, data, knots)
  free <- (o$base$rank + 1):ncol(o$Xb)
  a <- qr.solve(o$Xb[, free], rep(1, nrow(o$Xb)))
  turn <- qr.Q(qr(cbind(a, diag(length(free))[, -1])))
  o$P[, free] <- o$P[, free] %*% turn
  o$Xb[, free] <- o$Xb[, free] %*% turn
  for (i in seq_along(o$flev)) o$X[, (i - 1) * ncol(o$Xb) + seq_len(ncol(o$Xb))] <- o$Xb * (o$fac == o$flev[i])
  o
}

n <- 240
data <- data.frame(x = round(runif(n), 6), z = round(runif(n), 6), hour = round(runif(n, 0, 24), 6),
                   g = factor(sample(letters[1:8], n, TRUE)), h = factor(sample(LETTERS[1:3], n, TRUE)))
own <- rnorm(8, 0, 0.5); slope <- rnorm(8, 0, 0.7)
data$y <- round(with(data, sin(2 * pi * x) + own[g] + slope[g] * (x - 0.5) + cos(2 * pi * hour / 24) * 0.6 + x * z + rnorm(n, 0, 0.4)), 6)

describe_smooths <- function(formula, method = "REML") {
  c(list(formula = formula, method = method), describe_gam(gsub("'fs'", "'fsc'", formula), data, method))
}
kinds <- lapply(c(
  "y ~ s(hour, bs='cc')", "y ~ s(hour, bs='cc', k=6) + s(x)", "y ~ s(x) + s(g, bs='re')", "y ~ x + s(g, bs='re') + s(g, x, bs='re')",
  "y ~ s(g, bs='re') + s(h, bs='re') + s(g, h, bs='re')", "y ~ s(x, g, bs='fs', k=5)", "y ~ s(x) + s(x, g, bs='fs', k=4)",
  "y ~ te(x, z)", "y ~ te(x, z, k=4) + s(g, bs='re')", "y ~ te(x, hour, bs=c('cr', 'cc'), k=c(4, 6))", "y ~ te(x, z, bs='tp', k=4)",
  "y ~ s(x) + s(z) + ti(x, z)", "y ~ s(x, k=6) + s(hour, bs='cc', k=6) + ti(x, hour, bs=c('tp', 'cc'), k=c(4, 5))",
  "y ~ te(x, z, by=h, k=3) + h", "y ~ te(x, z, hour, k=3)", "y ~ s(hour, bs='cc', by=h) + h"), describe_smooths)
kinds <- c(kinds, lapply(c("y ~ te(x, z, k=4)", "y ~ s(x) + s(g, bs='re')"), describe_smooths, method = "GCV.Cp"))

# How far mgcv's own choice of directions is from ours, in the score.
own_choice <- function(formula) gam(as.formula(formula), data = data, method = "REML", control = exact_gam)$gcv.ubre[[1]]
directions <- lapply(c("y ~ s(x, g, bs='fs', k=5)", "y ~ s(x) + s(x, g, bs='fs', k=4)"), function(f) list(formula = f, score = own_choice(f)))

# Trajectories of six runs with autocorrelated errors.
steps <- 40; runs <- 6
series <- data.frame(run = factor(rep(sprintf("r%d", 1:runs), each = steps)), step = rep(seq_len(steps), runs), start = rep(seq_len(steps) == 1, runs))
series$y <- round(with(series, sin(step / 8) + rnorm(runs, 0, 0.4)[run] + as.numeric(replicate(runs, arima.sim(list(ar = 0.6), steps, sd = 0.3)))), 6)
one <- series[series$run == "r1", ]

describe_series <- function(formula, data, rho, method = "REML", starts = TRUE) {
  table <- data; table$first <- if (starts) table$start else seq_len(nrow(table)) == 1
  fit <- bam(as.formula(formula), data = table, method = method, rho = rho, AR.start = first, control = exact_gam)
  s <- summary(fit); p <- predict(fit, se.fit = TRUE)
  list(formula = formula, rho = rho, method = method, data = if (nrow(data) == steps) "one" else "series", starts = starts,
       edf = I(as.numeric(s$edf)), ref_df = I(as.numeric(s$s.table[, 2])), f = I(as.numeric(s$s.table[, 3])), p = I(as.numeric(s$s.table[, 4])),
       estimate = I(as.numeric(s$p.coeff)), score = as.numeric(fit$gcv.ubre), scale = s$scale, r_sq = s$r.sq,
       fitted = as.numeric(p$fit), se = as.numeric(p$se.fit), standardised = as.numeric(fit$std.rsd))
}
errors <- list(
  describe_series("y ~ s(step)", one, 0.6), describe_series("y ~ s(step) + s(run, bs='re')", series, 0.6),
  describe_series("y ~ s(step, k=15) + s(run, bs='re')", series, -0.3), describe_series("y ~ s(step)", series, 0.5, starts = FALSE),
  describe_series("y ~ s(step)", series, 0.6, "fREML"), describe_series("y ~ s(step) + s(run, bs='re')", series, 0.6, "GCV.Cp"))
likely <- optimize(function(rho) bam(y ~ s(step) + s(run, bs = "re"), data = series, method = "REML", rho = rho, AR.start = start,
                                     control = exact_gam)$gcv.ubre, c(-0.9, 0.95), tol = 1e-6)$minimum
plain <- gam(y ~ s(step), data = one, method = "REML", control = exact_gam)
estimated <- list(formula = "y ~ s(step)", rho = acf(residuals(plain), plot = FALSE)$acf[2],
                  likely_formula = "y ~ s(step) + s(run, bs='re')", likely = likely)

# Simultaneous intervals of curves and of their derivatives, as Simpson (2018) makes them: the derivative by differences, the
# critical value from draws of the coefficients. `t` divides the draws by the root of chi-square over its df.
simultaneous <- function(formula, term, step = 1e-6, n_draws = 2e5) {
  fit <- gam(as.formula(formula), data = data, method = "REML", control = exact_gam)
  grid <- data.frame(x = seq(0.01, 0.99, length.out = 60), z = 0.5, g = "a")
  columns <- grep(term, names(coef(fit)), fixed = TRUE)
  here <- predict(fit, grid, type = "lpmatrix"); there <- predict(fit, transform(grid, x = x + step), type = "lpmatrix")
  d <- rmvn(n_draws, rep(0, length(coef(fit))), vcov(fit)); shrink <- sqrt(rchisq(n_draws, fit$df.residual) / fit$df.residual)
  one <- function(m) {
    se <- sqrt(rowSums((m %*% vcov(fit)) * m)); largest <- apply(abs(m %*% t(d)) / se, 2, max)
    list(value = as.numeric(m %*% coef(fit)), se = se, critical = quantile(largest, 0.95)[[1]], t = quantile(largest / shrink, 0.95)[[1]])
  }
  only <- function(m) { m[, -columns] <- 0; m }
  list(formula = formula, term = term, x = grid$x, fit = one(here), smooth = one(only(here)), derivative = one(only((there - here) / step)))
}
bands <- list(simultaneous("y ~ s(x)", "s(x)"), simultaneous("y ~ s(x, k=20) + s(z)", "s(x)"), simultaneous("y ~ te(x, z, k=4)", "te(x,z)"))

# Other families: answers, shares, counts, positive numbers and proportions. `weight` are trials, or prior weights.
set.seed(41)
n <- 250
answers <- data.frame(x = round(runif(n), 6), z = round(runif(n), 6), g = factor(sample(letters[1:6], n, TRUE)), trials = sample(2:9, n, TRUE),
                      weight = round(runif(n, 0.5, 2), 6))
answers <- within(answers, {
  eta <- 1.5 * sin(2 * pi * x) + rnorm(6, 0, 0.5)[g] + z^2 - 0.5
  hit <- rbinom(n, 1, plogis(eta)); share <- rbinom(n, trials, plogis(eta)) / trials; count <- rpois(n, exp(eta / 2 + 1))
  positive <- round(rgamma(n, shape = 3, rate = 3 / exp(eta / 2)), 6); proportion <- round(rbeta(n, 6 * plogis(eta), 6 * plogis(-eta)), 6)
  eta <- NULL
})
describe_family <- function(formula, family, weights = NULL) {
  table <- answers; table$w <- if (is.null(weights)) 1 else answers[[weights]]
  one <- function(...) suppressWarnings(gam(as.formula(formula), data = table, weights = w, method = "REML", control = exact_gam, ...))
  of <- switch(family, binomial = binomial(), poisson = poisson(), gamma = Gamma("log"), beta = betar(), gaussian = gaussian())
  fit <- one(family = of)
  if (any(fit$sp >= exp(18))) fit <- one(family = of, sp = pmin(fit$sp, exp(18)))
  s <- summary(fit); p <- predict(fit, se.fit = TRUE); r <- predict(fit, type = "response", se.fit = TRUE)
  list(formula = formula, family = family, weights = weights, edf = I(as.numeric(s$edf)), ref_df = I(as.numeric(s$s.table[, 2])),
       statistic = I(as.numeric(s$s.table[, 3])), p = I(as.numeric(s$s.table[, 4])), terms = I(rownames(s$s.table)),
       estimate = I(as.numeric(s$p.coeff)), std_error = I(as.numeric(s$se[seq_along(s$p.coeff)])), p_parametric = I(as.numeric(s$p.pv)),
       score = as.numeric(fit$gcv.ubre), scale = s$scale, r_sq = s$r.sq, dev = s$dev.expl, deviance = deviance(fit),
       theta = if (family == "beta") fit$family$getTheta(TRUE) else NULL, link = as.numeric(p$fit)[1:60], link_se = as.numeric(p$se.fit)[1:60],
       fitted = as.numeric(r$fit)[1:60], se = as.numeric(r$se.fit)[1:60])
}
families <- list(
  describe_family("hit ~ s(x)", "binomial"), describe_family("hit ~ z + s(x) + s(g, bs='re')", "binomial"),
  describe_family("share ~ s(x) + s(z, bs='cr')", "binomial", "trials"), describe_family("count ~ s(x) + s(z)", "poisson"),
  describe_family("count ~ te(x, z, k=4) + s(g, bs='re')", "poisson"), describe_family("positive ~ s(x) + s(g, bs='re')", "gamma"),
  describe_family("positive ~ z + s(x)", "gamma", "weight"), describe_family("proportion ~ s(x)", "beta"),
  describe_family("proportion ~ s(x) + s(z) + s(g, bs='re')", "beta"), describe_family("positive ~ s(x) + s(g, bs='re')", "gaussian", "weight"))

write(toJSON(list(mgcv = as.character(packageVersion("mgcv")), data = data, series = series, kinds = kinds, directions = directions,
                  errors = errors, estimated = estimated, bands = bands, answers = answers, families = families),
             digits = NA, auto_unbox = TRUE, dataframe = "columns", na = "null"), file.path(here, "smooths.json"))
