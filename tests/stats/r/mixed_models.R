# Writes mixed_models.json: data made here and what lme4, lmerTest and lm say about them.
#   Rscript tests/stats/r/mixed_models.R
# The data are rounded to 6 decimals, so that JSON holds them exactly. R's optimiser is run to a tighter tolerance than
# its default: the default stops about 1e-6 before the optimum, and that would be the size of every difference found.

suppressMessages({library(lme4); library(lmerTest); library(jsonlite)})
source(file.path(dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE))), "describe.R"))

set.seed(20250815)
n6 <- function(n, sd = 1) round(rnorm(n, 0, sd), 6)
effect <- function(levels, sd) rnorm(nlevels(levels), 0, sd)[levels]

crossed <- expand.grid(subject = factor(sprintf("s%02d", 1:24)), item = factor(sprintf("i%02d", 1:15)))
crossed <- within(crossed, {
  x <- n6(length(subject)); z <- round(runif(length(subject), 1, 9), 6)
  recipe <- factor(c("A", "B", "C")[(as.integer(item) %% 3) + 1])
  same <- as.integer(subject) %% 2 == 0
  y <- round(3 + 0.7 * x + 0.2 * (recipe == "B") * x + effect(subject, 1.2) + effect(subject, 0.5) * x +
               effect(item, 0.6) + rnorm(length(subject)), 6)
  big <- 1e6 + y
})

nested <- data.frame(batch = factor(rep(sprintf("b%02d", 1:12), each = 12)),
                     cask = factor(rep(rep(c("a", "b", "c"), each = 4), 12)))
nested <- within(nested, {
  x <- n6(length(batch))
  y <- round(60 + 0.4 * x + effect(batch, 2) + effect(batch:cask, 1.5) + rnorm(length(batch), 0, 0.8), 6)
})

unbalanced <- data.frame(g = factor(sample(sprintf("g%02d", 1:20), 260, TRUE, prob = (1:20)^1.5)),
                         h = factor(sample(letters[1:9], 260, TRUE)), f = factor(sample(c("lo", "mid", "hi"), 260, TRUE)))
unbalanced <- within(unbalanced, {
  x <- n6(260, 2); z <- n6(260); n_params <- round(10^runif(260, 6, 9))
  y <- round(1 + 0.5 * x - 0.3 * z + effect(g, 0.8) + effect(g, 0.4) * x + effect(h, 0.7) + effect(h, 0.5) * z +
               0.4 * log10(n_params) + rnorm(260, 0, 0.9), 6)
})

many <- data.frame(g = factor(sample(sprintf("g%03d", 1:400), 2000, TRUE)), h = factor(sample(sprintf("h%02d", 1:30), 2000, TRUE)))
many <- within(many, { x <- n6(2000); y <- round(0.3 * x + effect(g, 0.9) + effect(h, 0.3) + rnorm(2000), 6) })

none <- data.frame(g = factor(rep(sprintf("g%d", 1:9), 4)), x = n6(36))
none$y <- round(2 - 0.8 * none$x + n6(36, 0.3), 6)
none$x <- round(none$x - ave(none$x, none$g), 6)
none$y <- round(none$y - ave(none$y, none$g) + mean(none$y), 6)   # no variance between the groups at all

line <- data.frame(g = factor(rep(sprintf("g%02d", 1:12), each = 8)), x = rep(0:7, 12))
line <- within(line, { u <- effect(g, 1.5); y <- round(5 + x + u + 0.6 * u * x + rnorm(96), 6); u <- NULL })  # correlation 1

holes <- crossed[1:200, c("subject", "item", "x", "y")]
holes$x[c(3, 50)] <- NA; holes$y[c(7, 120)] <- NA

twice <- within(unbalanced, { w <- round(2 * x - z, 6) })

tables <- list(crossed = crossed, nested = nested, unbalanced = unbalanced, many = many, none = none, line = line,
               holes = holes, twice = twice)
fits <- list(
  c("crossed", "y ~ x + (1 | subject) + (1 | item)"),
  c("crossed", "y ~ x * recipe + (x | subject) + (1 | item)"),
  c("crossed", "y ~ x + (x || subject) + (1 | item)"),
  c("crossed", "y ~ x + same + recipe + (1 | subject)"),
  c("crossed", "y ~ 0 + recipe + x:recipe + (1 | subject)"),
  c("crossed", "y ~ recipe * same * x + (1 | subject) + (1 | item)"),
  c("crossed", "big ~ x + (1 | subject) + (1 | item)"),
  c("crossed", "y ~ scale(x) + I(x^2) + sqrt(z) + (1 | subject)"),
  c("crossed", "log(z) ~ x + (1 | subject)"),
  c("crossed", "y ~ 1 + (recipe | subject)"),
  c("nested", "y ~ x + (1 | batch/cask)"),
  c("nested", "y ~ 1 + (1 | batch) + (1 | batch:cask)"),
  c("nested", "y ~ x + (x | batch/cask)"),
  c("unbalanced", "y ~ x + z + (x | g) + (z | h)"),
  c("unbalanced", "y ~ log10(n_params) * x + f + (1 | g) + (0 + x | g) + (1 | h)"),
  c("unbalanced", "y ~ x + z + f + (x + z | g)"),
  c("unbalanced", "y ~ f * x + (1 | h)"),
  c("unbalanced", "y ~ (f + x + z)^2 - f:z + (1 | g)"),
  c("many", "y ~ x + (1 | g) + (1 | h)"),
  c("many", "y ~ x + (x | g)"),
  c("none", "y ~ x + (1 | g)"),
  c("line", "y ~ x + (x | g)"),
  c("holes", "y ~ x + (1 | subject)"),
  c("twice", "y ~ x + z + w + (1 | g)"),
  c("crossed", "y ~ ordered(recipe) * x + (1 | subject)"),
  c("unbalanced", "y ~ x + z + (0 + ordered(f) | g)"),
  c("unbalanced", "y ~ ordered(f) + x + (ordered(f) | g)")
)
nests <- list(
  c("crossed", "y ~ x + (1 | subject)", "y ~ x + (x | subject)"),
  c("unbalanced", "y ~ x + (1 | g)", "y ~ x + z + f + (1 | g)"),
  c("unbalanced", "y ~ x + (x || g)", "y ~ x + (x | g)"),
  c("nested", "y ~ x + (1 | batch)", "y ~ x + (1 | batch/cask)")
)
linear <- list(
  c("crossed", "y ~ x * recipe + same"), c("crossed", "y ~ 0 + recipe + x"), c("crossed", "y ~ x - 1"),
  c("crossed", "big ~ x + I(x^2)"), c("unbalanced", "y ~ log10(n_params) * x + f"), c("twice", "y ~ x + w + z"),
  c("holes", "y ~ x"), c("crossed", "y ~ 1"), c("unbalanced", "y ~ f:x"), c("unbalanced", "y ~ f/x"),
  c("unbalanced", "y ~ log(n_params, 2) + exp(z) + log2(n_params + 1)"), c("crossed", "y ~ factor(z > 5) + x"),
  c("crossed", "y ~ ordered(recipe) + x"), c("crossed", "y ~ 0 + ordered(recipe) + x"), c("unbalanced", "y ~ ordered(h) * x"),
  c("unbalanced", "y ~ x + ordered(x > 0):ordered(f)")
)

names_of <- c(
  "y ~ 0 + recipe + same", "y ~ 0 + x + x:recipe", "y ~ recipe:same", "y ~ same:x + recipe", "y ~ recipe + same:recipe",
  "y ~ 0 + recipe:same", "y ~ 0 + recipe * same", "y ~ x * recipe - x", "y ~ recipe/x", "y ~ (recipe + same)/x",
  "y ~ I(x + 1) + I(x^2) + I((x + 2)/3) + I(-x) + I(x*2)", "y ~ I(x > 0)", "y ~ factor(z > 3)", "y ~ recipe %in% same + same",
  "y ~ 0 + recipe:x + same", "y ~ x:z:recipe + recipe", "y ~ (recipe + same + x)^2 - recipe:same", "y ~ scale(x) + log(abs(z), 2)",
  "y ~ -1 + x", "y ~ 1 + x * z:recipe", "y~x+log1p(z)*same", "y ~ exp(-x) + sqrt(z)/recipe", "y ~ (x + z + same)^3 - 1",
  "y ~ ordered(recipe) * x", "y ~ 0 + ordered(recipe)", "y ~ x:ordered(recipe)", "y ~ 0 + same + ordered(recipe):same", "y ~ ordered(item)"
)
random_order <- c(
  "y ~ (1 | h) + (1 | g) + (1 | k)", "y ~ (1 | h) + (1 | k) + (1 | g)", "y ~ x + (x || g) + (1 | h)", "y ~ (1 | h/f)",
  "y ~ x + (x | h) + (1 | g) + (z | h)", "y ~ (1 | f:h)", "y ~ (x * z | h)", "y ~ (1 | h) + (1 | g) + (0 + x | g)", "y ~ (x + z || g)"
)
ordered <- within(unbalanced, k <- factor(letters[as.integer(h) %% 9 + 1]))
order_of <- function(formula) {
  terms <- lFormula(as.formula(formula), ordered, control = lmerControl(check.nobs.vs.nRE = "ignore"))$reTrms
  list(formula = formula, groups = I(names(terms$cnms)), effects = unname(lapply(terms$cnms, I)))
}

out <- list(
  r = R.version.string, lme4 = as.character(packageVersion("lme4")), lmerTest = as.character(packageVersion("lmerTest")),
  tables = lapply(tables, as.list),
  columns = lapply(names_of, function(f) list(formula = f, names = I(colnames(model.matrix(as.formula(f), crossed))))),
  random_order = lapply(random_order, order_of), ordered = as.list(ordered),
  lmm = unlist(lapply(fits, function(f) lapply(c(TRUE, FALSE), function(reml) describe_lmm(f[1], f[2], tables[[f[1]]], reml))), recursive = FALSE),
  lrt = lapply(nests, function(f) describe_lrt(f[1], f[2], f[3], tables[[f[1]]])),
  ols = lapply(linear, function(f) describe_ols(f[1], f[2], tables[[f[1]]])),
  cor_test = list(describe_cor(crossed$x, crossed$y), describe_cor(none$x, none$y), describe_cor(holes$x, holes$y)),
  mds = describe_mds(as.matrix(round(dist(cbind(unbalanced$x, unbalanced$z, unbalanced$y)[1:25, ]), 6)))
)
target <- file.path(dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE))), "mixed_models.json")
write(toJSON(out, auto_unbox = TRUE, digits = 15, na = "null", null = "null"), target)
