"""Mixed models, GAMs, OLS, correlation, MDS, change points. Numbers in, numbers out; agrees with R, without R."""

# Names are bound here, and not lazily, so that `stats.lmm` is always the function and never the module of that name.
# The modules import scipy inside their functions: this package costs little beyond numpy and polars.
from headway.stats.change_points import change_points
from headway.stats.comparison import lrt
from headway.stats.correlation import cor_test
from headway.stats.gam import gam
from headway.stats.lmm import lmm
from headway.stats.mds import classical_mds
from headway.stats.ols import ols

__all__ = ["change_points", "classical_mds", "cor_test", "gam", "lmm", "lrt", "ols"]
