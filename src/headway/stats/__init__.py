"""Mixed models, GAMs, OLS, correlation, MDS, change points. Numbers in, numbers out; agrees with R, without R."""

from importlib.util import find_spec

__all__ = ["change_points", "classical_mds", "cor_test", "gam", "lmm", "lrt", "ols"]

# Bound here, and not lazily, so that `stats.gam` is always the function and never the module of the same name.
# The modules import scipy inside their functions; importing this package costs little beyond numpy and polars.
if find_spec("headway.stats.gam"):
    from headway.stats.gam import gam
if find_spec("headway.stats.change_points"):
    from headway.stats.change_points import change_points
