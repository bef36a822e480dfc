# Writes linear.json beside itself: poly(), all other columns by `.`, and prediction intervals, as lm and lme4 have them.
#   Rscript tests/stats/r/linear.R
# Debian: r-cran-lme4 r-cran-jsonlite

suppressMessages({library(lme4); library(jsonlite)})
here <- dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE)))
source(file.path(here, "describe.R"))
set.seed(5)
n <- 80
data <- data.frame(x = round(rnorm(n, 3, 2), 6), z = round(runif(n), 6), f = sample(c("lo", "mid", "hi"), n, TRUE), g = sprintf("g%d", sample(9, n, TRUE)),
                   w = round(runif(n, 0.5, 2), 6))
data$y <- round(with(data, 1 + 0.5 * x - 0.2 * x^2 + z + (f == "mid") + rnorm(9, 0, 0.7)[factor(g)] + rnorm(n, 0, 0.8)), 6)
new <- data.frame(x = c(-2, 0, 3.3, 9), z = c(0.1, 0.5, 0.9, 2), f = c("lo", "hi", "mid", "lo"), g = "g1", w = 1)

linear <- function(formula, columns = names(data), weights = NULL) {
  table <- data[columns]; table$one <- if (is.null(weights)) 1 else data[[weights]]
  fit <- lm(as.formula(formula), data = if (grepl(".", formula, fixed = TRUE)) data[columns] else table, weights = if (is.null(weights)) NULL else one)
  of <- function(kind, level) suppressWarnings(as.data.frame(predict(fit, new, interval = kind, level = level)))
  list(formula = formula, columns = I(columns), weights = weights, term = I(names(coef(fit))), estimate = I(as.numeric(coef(fit))),
       std_error = I(as.numeric(sqrt(diag(vcov(fit))))), confidence = of("confidence", 0.9), prediction = of("prediction", 0.95))
}
linears <- list(linear("y ~ poly(x, 2)"), linear("y ~ poly(x, 1) + f"), linear("y ~ poly(x, degree = 3) * z"), linear("y ~ poly(x, 2):f"),
  linear("y ~ poly(log(z), 2) + x", weights = "w"), linear("y ~ .", c("y", "x", "f", "z")), linear("y ~ . - x", c("y", "x", "f", "z")),
  linear("y ~ .^2", c("y", "x", "z")), linear("y ~ poly(x, 2) + . - x", c("y", "x", "z")))

mixed <- function(formula) {
  fit <- suppressMessages(lmer(as.formula(formula), data, control = exact))
  list(formula = formula, term = names(fixef(fit)), estimate = as.numeric(fixef(fit)), criterion = REMLcrit(fit), sd = as.data.frame(VarCorr(fit))$sdcor,
       predicted = as.numeric(predict(fit, new)))
}
write(toJSON(list(data = data, new = new, linear = linears, mixed = list(mixed("y ~ poly(x, 2) + (1 | g)"), mixed("y ~ poly(x, 3) * f + (1 | g)"))),
             digits = NA, auto_unbox = TRUE, dataframe = "columns", na = "null"), file.path(here, "linear.json"))
