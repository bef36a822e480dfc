# What mgcv says of a fit, as the tests compare it.
describe_gam <- function(formula, data, method) {
  fit <- gam(as.formula(formula), data = data, method = method); s <- summary(fit)
  p <- predict(fit, se.fit = TRUE)
  list(edf = as.numeric(s$edf), ref_df = as.numeric(s$s.table[, 2]), f = as.numeric(s$s.table[, 3]),
    p = as.numeric(s$s.table[, 4]), intercept = as.numeric(s$p.table[1, 1:2]), r_sq = s$r.sq, dev = s$dev.expl,
    score = as.numeric(fit$gcv.ubre), scale = s$scale, fitted = as.numeric(p$fit), se = as.numeric(p$se.fit))
}
