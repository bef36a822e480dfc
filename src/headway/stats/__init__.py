"""Mixed models, GAMs, OLS, correlation, MDS and change points, from numbers to numbers. Results agree with R."""

# Names are imported eagerly, so that `stats.lmm` is always the function and never the module of that name. The modules
# import scipy inside their functions, so this package costs little more than numpy and polars.
from headway.stats.bambi import to_bambi
from headway.stats.change_points import change_points
from headway.stats.comparison import lrt
from headway.stats.correlation import cor_test
from headway.stats.diagnostics import diagnostics
from headway.stats.gam import gam
from headway.stats.glmm import glmm
from headway.stats.influence import influence
from headway.stats.interval_regression import interval_regression
from headway.stats.lmm import lmm
from headway.stats.marginal_means import marginal_means
from headway.stats.mds import classical_mds
from headway.stats.ols import ols
from headway.stats.outliers import grubbs
from headway.stats.permanova import permanova

__all__ = [
    "change_points",
    "classical_mds",
    "cor_test",
    "diagnostics",
    "gam",
    "glmm",
    "grubbs",
    "influence",
    "interval_regression",
    "lmm",
    "lrt",
    "marginal_means",
    "ols",
    "permanova",
    "to_bambi",
]
