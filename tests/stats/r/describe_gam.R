# What mgcv says of a fit, as the tests compare it.

# mgcv's default tolerances depend on the unit of y and stop up to 1e-4 of the edf before the minimum, or far from it
# (docs/statistics.md): that would be the size of every difference found.
exact_gam <- gam.control(mgcv.tol = 1e-10, epsilon = 1e-13,
                         newton = list(conv.tol = 1e-12, maxNstep = 5, maxSstep = 2, maxHalf = 60, use.svd = FALSE))

# Where the data want a straight line, a smoothing parameter goes to infinity. From about exp(20) on mgcv loses rank, and the
# edf that it prints is no longer that of its smoothing parameters: the fit is then repeated at exp(18), where edf is within
# 1e-7 of its limit.
fit_gam <- function(formula, data, method) {
  fit <- gam(as.formula(formula), data = data, method = method, control = exact_gam)
  if (all(fit$sp < exp(18))) fit
  else gam(as.formula(formula), data = data, method = method, control = exact_gam, sp = pmin(fit$sp, exp(18)))
}

describe_gam <- function(formula, data, method) {
  fit <- suppressWarnings(fit_gam(formula, data, method)); s <- summary(fit)
  p <- predict(fit, se.fit = TRUE)
  list(edf = as.numeric(s$edf), ref_df = as.numeric(s$s.table[, 2]), f = as.numeric(s$s.table[, 3]),
    p = as.numeric(s$s.table[, 4]), terms = I(rownames(s$s.table)),
    parametric = I(as.character(names(s$p.coeff))), estimate = I(as.numeric(s$p.coeff)),
    r_sq = s$r.sq, dev = s$dev.expl, null_deviance = if (attr(terms(fit), "intercept")) fit$null.deviance else sum(fit$y^2),
    deviance = deviance(fit), score = as.numeric(fit$gcv.ubre), scale = s$scale,
    fitted = as.numeric(p$fit), se = as.numeric(p$se.fit))
}
