# Writes induction.json: the models of the published study, in R, with prefix matching for the previous/self ratio.
#   Rscript tests/studies/induction.R pythia_induction.csv.gz
# It reads the published rows of the three sizes that are whole, and shares no step with headway but the thresholds of an
# onset, which are in their definition: fifteen equal steps to half the range per decade of training (docs/development.md).
suppressMessages({library(lme4); library(lmerTest); library(mgcv); library(jsonlite)})
script <- sub("--file=", "", grep("--file=", commandArgs(), value = TRUE))
rows <- read.csv(commandArgs(trailingOnly = TRUE)[1])
rows$model <- sub(".*/", "", rows$mpath)
rows <- subset(rows, model != "pythia-410m")
rows$seed_name <- paste0("seed", rows$seed)
rows$value <- rows$mean_ps
rows$Layer <- rows$layer + 1
rows$Head <- rows$head + 1
run <- value ~ model + n_params + seed_name
exact <- lmerControl(optimizer = "bobyqa", check.conv.singular = "ignore", check.conv.grad = "ignore",
                     check.conv.hess = "ignore", optCtrl = list(rhobeg = 0.02, rhoend = 1e-9, maxfun = 1e5))

strongest <- aggregate(value ~ model + n_params + seed_name + step, rows, max)
strongest <- strongest[order(strongest$model, strongest$seed_name, strongest$step), ]
strongest$log_step <- log10(strongest$step + 1)
of_run <- split(strongest, paste(strongest$model, strongest$seed_name))

ends <- function(step) strongest$value[strongest$step == step]
range <- quantile(ends(143000), 0.9) - median(ends(0))
step <- signif(range / 2 / 15, 2)
onset <- do.call(rbind, lapply(of_run, function(one) {
  slope <- c(NA, diff(one$value) / diff(one$log_step))
  first <- sapply(1:15, function(i) one$step[which(slope > round(step * i, 6))[1]])
  data.frame(one[1, c("model", "n_params", "seed_name")], m_step = mean(first, na.rm = TRUE))
}))
slopes <- do.call(rbind, lapply(of_run, function(one)
  data.frame(one[1, c("model", "n_params", "seed_name")], estimate = unname(coef(lm(value ~ log_step, one))[2]))))
peaks <- aggregate(run, strongest, max); names(peaks)[names(peaks) == "value"] <- "max_attn"

final <- subset(rows, step == 143000)
final$z <- ave(final$value, final$model, FUN = function(v) (v - mean(v)) / sd(v))
final$prop_layer <- final$Layer / ave(final$Layer, final$model, FUN = max)
layers <- aggregate(z ~ model + Layer + n_params + seed_name, final, max); names(layers)[names(layers) == "z"] <- "max_attention"

mixed <- function(formula, data, reml = TRUE) {
  fit <- lmerTest::lmer(formula, data, REML = reml, control = exact)
  table <- coef(summary(fit)); colnames(table) <- c("estimate", "std_error", "df", "t", "p")
  list(n_obs = nobs(fit), criterion = if (reml) REMLcrit(fit) else -2 * as.numeric(logLik(fit)),
       fixed = lapply(setNames(rownames(table), rownames(table)), function(term) as.list(table[term, ])))
}
curve <- function(formula, data) {
  s <- summary(gam(formula, data = data))
  list(n = nrow(data), edf = unname(s$edf), gcv = unname(s$sp.criterion), intercept = unname(s$p.coeff))
}
correlation <- cor(sapply(of_run, function(one) one$value))
size <- sapply(of_run, function(one) one$n_params[1])
pairs <- expand.grid(a = seq_along(size), b = seq_along(size)); pairs <- pairs[pairs$a != pairs$b, ]
pairs <- data.frame(cor = correlation[cbind(pairs$a, pairs$b)], n_params1 = size[pairs$a], n_params2 = size[pairs$b],
                    same_model = size[pairs$a] == size[pairs$b])
line <- coef(summary(lm(cor ~ same_model + log10(n_params1) + log10(n_params2), pairs)))

answers <- suppressMessages(suppressWarnings(list(
  lmm = list(
    final_layer_by_size = mixed(max_attention ~ log10(n_params) * Layer + (1 | seed_name), layers),
    final_depth = mixed(value ~ prop_layer + (1 | Head) + (1 | model), final),
    growth = mixed(value ~ log_step + (1 | seed_name) + (1 | model), strongest, FALSE),
    onset = mixed(log10(m_step) ~ log10(n_params) + (1 | seed_name), onset),
    peak = mixed(max_attn ~ log10(n_params) + (1 | seed_name), peaks),
    slope = mixed(estimate ~ log10(n_params) + (1 | seed_name), slopes)),
  gam = list(final_depth = curve(value ~ s(prop_layer), final), growth = curve(value ~ s(log_step), strongest)),
  ols = list(trajectory_correlation = lapply(setNames(rownames(line), rownames(line)), function(term) unname(line[term, 1]))))))
write(toJSON(answers, digits = I(12), auto_unbox = TRUE, pretty = 1), file.path(dirname(script), "induction.json"))
