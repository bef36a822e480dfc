"""What the room exports, and what importing it costs."""

import subprocess
import sys

from headway import stats


def test_exports_are_functions_even_after_their_modules_were_imported():

    assert all(callable(getattr(stats, name)) for name in stats.__all__)


def test_importing_statistics_loads_neither_scipy_nor_pandas():
    code = "import sys, headway.stats; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"scipy", "pandas", "torch", "sklearn"}
