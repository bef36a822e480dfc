"""Mixed models, GAMs, OLS, correlation, MDS, change points. Numbers in, numbers out; agrees with R, without R."""

# Names are bound here, and not lazily, so that `stats.lmm` is always the function and never the module of that name.
# The modules import scipy inside their functions: this package costs little beyond numpy and polars.
from importlib.util import find_spec

from headway.stats.correlation import cor_test
from headway.stats.lmm import lmm, lrt
from headway.stats.mds import classical_mds
from headway.stats.ols import ols

if find_spec("headway.stats.gam"):
    from headway.stats.gam import gam
if find_spec("headway.stats.change_points"):
    from headway.stats.change_points import change_points

__all__ = ["change_points", "classical_mds", "cor_test", "gam", "lmm", "lrt", "ols"]
