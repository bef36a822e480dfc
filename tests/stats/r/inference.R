# Writes inference.json: small-sample tests, profile intervals, explained variance, influence and marginal means, as
# pbkrtest, lme4, performance and emmeans compute them.
#   Rscript tests/stats/r/inference.R
# Debian: r-cran-lmertest r-cran-pbkrtest r-cran-emmeans r-cran-performance r-cran-jsonlite

suppressMessages({library(lme4); library(lmerTest); library(pbkrtest); library(emmeans); library(performance); library(survival); library(jsonlite)})
here <- dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE)))
source(file.path(here, "describe.R"))
mixed <- read_json(file.path(here, "mixed_models.json"), simplifyVector = TRUE)

table_of <- function(name) {
  data <- as.data.frame(mixed$tables[[name]])
  for (column in names(data)) if (is.character(data[[column]])) data[[column]] <- factor(data[[column]])
  data
}

fit_of <- function(case, reml = TRUE)
  suppressMessages(suppressWarnings(lmerTest::lmer(as.formula(case[2]), table_of(case[1]), REML = reml, control = exact)))

kenward_roger <- function(case) {
  fit <- fit_of(case); s <- coef(summary(fit, ddf = "Kenward-Roger"))
  p <- nrow(s); all <- diag(p)[-1, , drop = FALSE]
  f <- if (p > 1) KRmodcomp(fit, all)$stats else NULL
  list(table = case[1], formula = case[2], term = I(rownames(s)), std_error = I(s[, 2]), df = I(s[, 3]), p = I(s[, 5]),
       f = f$Fstat, df_1 = f$ndf, df_2 = f$ddf)
}

# The grid of the profile is finer than lme4's default, whose interpolation alone moves bounds by 1e-4.
profile_of <- function(case) {
  fit <- suppressMessages(suppressWarnings(lme4::lmer(as.formula(case[2]), table_of(case[1]), REML = FALSE, control = exact)))
  interval <- suppressWarnings(confint(profile(fit, delta = 0.1, maxpts = 300, signames = FALSE)))
  list(table = case[1], formula = case[2], term = I(rownames(interval)), lower = I(interval[, 1]), upper = I(interval[, 2]))
}

explained <- function(case) {
  fit <- fit_of(case); r2 <- r2_nakagawa(fit)
  list(table = case[1], formula = case[2], marginal = r2$R2_marginal[[1]], conditional = r2$R2_conditional[[1]],
       icc = icc(fit)$ICC_adjusted)
}

left_out <- function(case, group) {
  fit <- fit_of(case); data <- table_of(case[1]); levels <- levels(data[[group]])
  without <- t(sapply(levels, function(level)
    fixef(suppressMessages(lmerTest::lmer(as.formula(case[2]), data[data[[group]] != level, ], control = exact)))))
  change <- sweep(-without, 2, fixef(fit), "+")
  list(table = case[1], formula = case[2], group = group, level = levels, estimates = without, term = names(fixef(fit)),
       cook_d = I(unname(rowSums((change %*% solve(as.matrix(vcov(fit)))) * change) / ncol(change))))
}

means <- function(case, of, adjust, at = NULL, df = "satterthwaite") {
  linear <- !grepl("|", case[2], fixed = TRUE)
  fit <- if (linear) lm(as.formula(case[2]), table_of(case[1])) else fit_of(case)
  grid <- suppressMessages(emmeans(fit, of, at = at, lmer.df = df))
  table <- summary(grid); pairs <- summary(pairs(grid, adjust = adjust))
  list(table = case[1], formula = case[2], of = I(of), at = at, adjust = adjust, df_method = df,
       levels = lapply(of, function(name) as.character(table[[name]])), mean = table$emmean, std_error = table$SE, df = table$df,
       lower = table$lower.CL, upper = table$upper.CL, contrast = as.character(pairs$contrast), estimate = pairs$estimate,
       contrast_std_error = pairs$SE, contrast_df = pairs$df, t = pairs$t.ratio, p = pairs$p.value)
}

# Prior weights and an offset: z is positive in `crossed`, and x any number.
weighted <- function(formula, reml) {
  data <- table_of("crossed")
  if (grepl("|", formula, fixed = TRUE)) {
    fit <- suppressMessages(lmerTest::lmer(as.formula(formula), data, weights = z, REML = reml, control = exact))
    table <- coef(summary(fit))
    c(list(criterion = if (reml) REMLcrit(fit) else -2 * as.numeric(logLik(fit)), sd = as.data.frame(VarCorr(fit))$sdcor,
           std_error = table[, 2], df = table[, 3], scaled = quantile(residuals(fit, "pearson", scaled = TRUE)),
           fitted = fitted(fit)[1:20], population = predict(fit, data[1:5, ], re.form = NA), predicted = predict(fit, data[1:5, ])),
      list(formula = formula, method = if (reml) "REML" else "ML", estimate = table[, 1]))
  } else {
    fit <- lm(as.formula(formula), data, weights = z); s <- summary(fit)
    list(formula = formula, estimate = coef(s)[, 1], std_error = coef(s)[, 2], sigma = s$sigma, r_squared = s$r.squared,
         adj_r_squared = s$adj.r.squared, f = s$fstatistic[[1]], log_lik = as.numeric(logLik(fit)),
         residuals = quantile(s$residuals), fitted = fitted(fit)[1:20], predicted = predict(fit, data[1:5, ]))
  }
}

cases <- list(
  c("crossed", "y ~ x + (1 | subject) + (1 | item)"),
  c("crossed", "y ~ x * recipe + (x | subject) + (1 | item)"),
  c("crossed", "y ~ x + (x || subject) + (1 | item)"),
  c("nested", "y ~ x + (1 | batch/cask)"),
  c("unbalanced", "y ~ x * f + (x | g) + (1 | h)"),
  c("unbalanced", "y ~ f + z + (1 | g)"),
  c("none", "y ~ x + (1 | g)"),
  c("holes", "y ~ x + (1 | subject)")
)
# Shares, single answers and counts of 300 rows, in crossed groups.
set.seed(20261127)
g <- factor(sample(sprintf("g%02d", 1:15), 300, TRUE)); h <- factor(sample(letters[1:6], 300, TRUE))
counts <- data.frame(g = g, h = h, f = factor(sample(c("lo", "mid", "hi"), 300, TRUE)), x = round(rnorm(300), 6),
                     exposure = round(runif(300, 0.5, 3), 6), trials = sample(1:12, 300, TRUE))
counts <- within(counts, {
  eta <- -0.4 + 0.8 * x + 0.5 * (f == "mid") + rnorm(15, 0, 0.9)[g] + rnorm(15, 0, 0.5)[g] * x + rnorm(6, 0, 0.5)[h]
  hits <- rbinom(300, trials, plogis(eta)); share <- hits / trials
  answer <- rbinom(300, 1, plogis(eta)); events <- rpois(300, exposure * exp(0.3 + 0.4 * eta))
  flat <- rbinom(300, 1, 0.4); eta <- NULL
})

generalised <- function(formula, family, weights = NULL) {
  control <- glmerControl(optimizer = "bobyqa", tolPwrss = 1e-12, check.conv.singular = "ignore", check.conv.grad = "ignore",
                          optCtrl = list(rhobeg = 0.02, rhoend = 1e-9, maxfun = 1e5))
  data <- counts; data$w <- if (is.null(weights)) 1 else counts[[weights]]
  fit <- suppressWarnings(glmer(as.formula(formula), data, family = family, weights = w, control = control))
  table <- coef(summary(fit)); re <- as.data.frame(ranef(fit)); vc <- as.data.frame(VarCorr(fit))
  list(formula = formula, family = family, weights = weights, term = I(rownames(table)), estimate = I(table[, 1]),
       std_error = I(table[, 2]), p = I(table[, 4]), log_lik = as.numeric(logLik(fit)), aic = AIC(fit), bic = BIC(fit),
       sd = I(vc$sdcor[is.na(vc$var2)]), correlation = I(vc$sdcor[!is.na(vc$var2)]), fitted = as.numeric(fitted(fit))[1:20],
       population = as.numeric(predict(fit, data[1:5, ], re.form = NA, type = "response")),
       predicted = as.numeric(predict(fit, data[1:5, ], type = "response")),
       level = as.character(re$grp), effect = as.character(re$term), value = re$condval,
       scaled = as.numeric(quantile(residuals(fit, "pearson"))))
}

# Times in intervals: bounds of 0 and Inf are written as missing.
set.seed(7)
cl <- factor(sample(sprintf("c%02d", 1:14), 150, TRUE)); x <- round(rnorm(150), 6)
time <- exp(1 + 0.5 * x + rnorm(14, 0, 0.4)[cl] + 0.6 * rnorm(150))
edges <- c(0, 1, 2, 4, 8, 16, Inf); k <- findInterval(time, edges)
exact_row <- runif(150) < 0.2
times <- data.frame(cl = cl, x = x, f = factor(sample(c("u", "v", "w"), 150, TRUE)),
                    after = round(ifelse(exact_row, time, edges[k]), 6), by = round(ifelse(exact_row, time, edges[k + 1]), 6))
times$after[times$after == 0] <- NA; times$by[is.infinite(times$by)] <- NA

# Clusters: survreg's own robust variance is right for exact times, but its scores of log(scale) are not the derivative of the
# likelihood where times lie in intervals. So the sandwich is computed here from numerical derivatives of each row.
censored <- function(formula, distribution) {
  control <- survreg.control(rel.tolerance = 1e-13, maxiter = 200)
  fit <- survreg(as.formula(paste("Surv(after, by, type = 'interval2')", formula)), times, dist = distribution, control = control)
  cdf <- switch(distribution, lognormal = pnorm, loglogistic = plogis, weibull = function(z) 1 - exp(-exp(z)))
  pdf <- switch(distribution, lognormal = dnorm, loglogistic = dlogis, weibull = function(z) exp(z - exp(z)))
  X <- model.matrix(as.formula(formula), times); low <- log(ifelse(is.na(times$after), 0, times$after))
  high <- log(ifelse(is.na(times$by), Inf, times$by))
  rows <- function(p) { m <- X %*% p[-length(p)]; s <- exp(p[length(p)]); zl <- (low - m) / s; zh <- (high - m) / s
    ifelse(low == high, log(pdf(zl)) - log(s) - low, log(cdf(zh) - cdf(zl))) }
  at <- c(coef(fit), log(fit$scale)); bread <- solve(-numDeriv::hessian(function(p) sum(rows(p)), at))
  meat <- crossprod(rowsum(numDeriv::jacobian(rows, at), times$cl))
  robust <- bread %*% meat %*% bread
  list(formula = formula, distribution = distribution, term = I(names(coef(fit))), estimate = I(unname(coef(fit))),
       std_error = I(sqrt(diag(vcov(fit)))[seq_along(coef(fit))]), scale = fit$scale, log_lik = as.numeric(logLik(fit)),
       log_scale_std_error = sqrt(diag(vcov(fit)))[[length(coef(fit)) + 1]], robust = I(sqrt(diag(robust))),
       medians = as.numeric(predict(fit, times[1:5, ], type = "quantile", p = 0.5)),
       late = as.numeric(predict(fit, times[1:5, ], type = "quantile", p = 0.9)))
}

write_json(list(
  counts = counts,
  times = times,
  censored = list(censored("~ x + f", "lognormal"), censored("~ x * f", "loglogistic"), censored("~ x", "weibull"),
                  censored("~ 1", "lognormal")),
  generalised = list(
    generalised("answer ~ x + (1 | g)", "binomial"),
    generalised("answer ~ x * f + (1 | g) + (1 | h)", "binomial"),
    generalised("share ~ x + f + (x | g) + (1 | h)", "binomial", "trials"),
    generalised("events ~ x + offset(log(exposure)) + (x || g) + (1 | h)", "poisson"),
    generalised("events ~ f + offset(log(exposure)) + (1 | g/h)", "poisson"),
    generalised("flat ~ x + (1 | h)", "binomial")
  ),
  kenward_roger = lapply(cases, kenward_roger),
  profiles = lapply(cases[c(1, 3, 4, 6, 7, 8)], profile_of),
  explained = lapply(cases[c(1, 2, 4, 5, 6)], explained),
  influence = list(left_out(cases[[4]], "batch"), left_out(cases[[6]], "g")),
  weighted = list(weighted("y ~ x + recipe + offset(0.5 * x) + (1 | subject) + (1 | item)", TRUE),
                  weighted("y ~ recipe + offset(0.5 * x) + (x | subject)", FALSE),
                  weighted("y ~ recipe + offset(0.5 * x)", TRUE), weighted("y ~ 0 + x + recipe", TRUE)),
  means = list(
    means(c("unbalanced", "y ~ f * x + h + (1 | g)"), "f", "tukey", df = "kenward-roger"),
    means(c("unbalanced", "y ~ f * x + h + (1 | g)"), "h", "holm"),
    means(c("unbalanced", "y ~ f * I(x^2) + x + (1 | g)"), "f", "bonferroni", at = list(x = 1.5)),
    means(c("crossed", "y ~ recipe * x + (1 | subject)"), "recipe", "none"),
    means(c("unbalanced", "y ~ f * h + z"), c("f", "h"), "tukey"),
    means(c("unbalanced", "y ~ f + log10(n_params)"), "f", "holm")
  )
), file.path(here, "inference.json"), digits = NA, auto_unbox = TRUE, na = "null")
