# What lme4, lmerTest, lm, cor.test and cmdscale say of one fit, as lists for JSON.

exact <- lmerControl(optimizer = "bobyqa", check.conv.singular = "ignore", check.conv.grad = "ignore",
                     check.conv.hess = "ignore", calc.derivs = FALSE,
                     optCtrl = list(rhobeg = 0.02, rhoend = 1e-9, maxfun = 1e5))

columns <- function(m) { m <- as.data.frame(m); c(list(term = rownames(m)), as.list(setNames(m, colnames(m)))) }

describe_lmm <- function(name, formula, data, reml, control = exact) {
  fit <- suppressMessages(suppressWarnings(lmerTest::lmer(as.formula(formula), data, REML = reml, control = control)))
  table <- coef(summary(fit)); colnames(table) <- c("estimate", "std_error", "df", "t", "p")
  vc <- as.data.frame(VarCorr(fit))
  own <- vc[is.na(vc$var2), ]; pairs <- vc[!is.na(vc$var2), ]
  new <- data[c(1, 5, 17, 30), ]
  aov <- if (length(attr(terms(fit), "term.labels")) && is.null(attr(getME(fit, "X"), "col.dropped")))
    tryCatch(columns(setNames(as.data.frame(anova(fit)), c("sum_sq", "mean_sq", "num_df", "den_df", "f", "p"))), error = function(e) NULL)
  re <- as.data.frame(ranef(fit, condVar = TRUE))
  wald <- suppressWarnings(confint(fit, method = "Wald"))
  wald <- wald[!grepl("^\\.sig", rownames(wald)), , drop = FALSE]
  list(table = name, formula = formula, method = if (reml) "REML" else "ML",
       criterion = if (reml) REMLcrit(fit) else -2 * as.numeric(logLik(fit)), log_lik = as.numeric(logLik(fit)),
       aic = AIC(fit), bic = BIC(fit), df_resid = df.residual(fit), n_obs = nobs(fit), sigma = sigma(fit),
       singular = isSingular(fit), n_groups = as.list(summary(fit)$ngrps),
       fixed = columns(table), vcov = as.matrix(vcov(fit)),
       random = list(group = own$grp, term = own$var1, variance = own$vcov, sd = own$sdcor),
       random_correlations = list(group = I(pairs$grp), term_1 = I(pairs$var1), term_2 = I(pairs$var2), correlation = I(pairs$sdcor)),
       scaled_residuals = as.numeric(quantile(residuals(fit, type = "pearson", scaled = TRUE))),
       fitted = as.numeric(fitted(fit))[1:20],
       ranef = list(group = as.character(re$grpvar), level = as.character(re$grp), term = as.character(re$term),
                    value = re$condval, sd = re$condsd),
       rows = c(1, 5, 17, 30), predicted = as.numeric(predict(fit, new)),
       population = as.numeric(predict(fit, new, re.form = NA)),
       wald = list(term = I(rownames(wald)), lower = I(wald[, 1]), upper = I(wald[, 2])), anova = aov)
}

describe_lrt <- function(name, small, big, data) {
  fits <- lapply(c(small, big), function(f) lmerTest::lmer(as.formula(f), data, control = exact))
  test <- suppressMessages(anova(fits[[1]], fits[[2]]))
  list(table = name, small = small, big = big, chi2 = test$Chisq[2], df = test$Df[2], p = test$`Pr(>Chisq)`[2])
}

describe_ols <- function(name, formula, data) {
  fit <- lm(as.formula(formula), data); s <- summary(fit)
  table <- coef(s); colnames(table) <- c("estimate", "std_error", "t", "p")
  interval <- confint(fit)[!is.na(coef(fit)), , drop = FALSE]
  list(table = name, formula = formula, coefficients = columns(table), sigma = s$sigma, df_resid = fit$df.residual,
       r_squared = s$r.squared, adj_r_squared = s$adj.r.squared,
       f = if (is.null(s$fstatistic)) NULL else s$fstatistic[[1]], f_df = if (is.null(s$fstatistic)) NULL else s$fstatistic[2:3],
       p = if (is.null(s$fstatistic)) NULL else pf(s$fstatistic[[1]], s$fstatistic[[2]], s$fstatistic[[3]], lower.tail = FALSE),
       residuals = as.numeric(quantile(residuals(fit))), log_lik = as.numeric(logLik(fit)), aic = AIC(fit), bic = BIC(fit),
       vcov = vcov(fit)[!is.na(coef(fit)), !is.na(coef(fit)), drop = FALSE],
       lower = I(as.numeric(interval[, 1])), upper = I(as.numeric(interval[, 2])),
       rows = c(1, 5, 17, 30), predicted = suppressWarnings(as.numeric(predict(fit, data[c(1, 5, 17, 30), ]))))
}

describe_cor <- function(x, y) {
  test <- cor.test(x, y)
  list(x = x, y = y, r = test$estimate[[1]], t = test$statistic[[1]], df = test$parameter[[1]], p = test$p.value,
       lower = test$conf.int[1], upper = test$conf.int[2])
}

describe_mds <- function(d) {
  scaled <- cmdscale(d, k = 2, eig = TRUE)
  list(distances = d, points = scaled$points, eigenvalues = scaled$eig, fit = scaled$GOF)
}
