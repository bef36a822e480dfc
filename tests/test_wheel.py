"""The wheel holds the package and nothing else, and works in an environment that has only its dependencies."""

import os
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from headway import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this tree, built with what is installed here, so that the network is not needed."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", str(ROOT), *options], check=True)
    [found] = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory):
    """The folder of commands of a new environment. It has the wheel, and sees the packages that are installed here."""
    place = tmp_path_factory.mktemp("bare")
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--quiet", str(wheel)], check=True)
    [packages] = place.glob("lib/python*/site-packages")
    # A folder that a .pth names comes after the environment's own, and the .pth files in it are not read. So an editable
    # headway of the running environment is not found.
    (packages / "dependencies.pth").write_text("\n".join(path for path in sys.path if "site-packages" in path))
    return place / "bin"


def run(*words: object) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    return subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True, env=clean, cwd="/").stdout


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel):
    names = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (ROOT / "src").glob("headway/**/*")
    assert names == {str(path.relative_to(ROOT / "src")) for path in files if path.is_file() and path.suffix != ".pyc"}
    assert {"headway/py.typed", "headway/cli.py"} < names
    assert any("/templates/" in name for name in names)


def test_the_wheel_names_the_license_and_the_command(wheel):
    with ZipFile(wheel) as archive:
        by_name = {name.partition(".dist-info/")[2]: name for name in archive.namelist() if ".dist-info/" in name}
        metadata = archive.read(by_name["METADATA"]).decode()
        assert archive.read(by_name["licenses/LICENSE"]) == (ROOT / "LICENSE").read_bytes()
        assert "headway = headway.__main__:main" in archive.read(by_name["entry_points.txt"]).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Classifier: Typing :: Typed" in metadata


@pytest.mark.slow
def test_the_wheel_works_where_it_is_installed(bare):
    place = run(bare / "python", "-c", "import headway; print(headway.__file__)").strip()
    assert Path(place).is_relative_to(bare.parent)
    help_of = run(bare / "headway", "--help")
    for command in ("measure", "cluster", "intervene", "analyze", "report", "audit"):
        assert f"  {command} " in help_of
    fit = 'import headway; print(round(headway.stats.ols("y ~ x", {"x": [0, 1, 2], "y": [1, 3, 6]}).r_squared, 4))'
    # slope 2.5; the residuals 1/6, -1/3, 1/6 have squares of 1/6, of 38/3 in all: 1 - 1/76
    assert run(bare / "python", "-c", fit).strip() == "0.9868"


def test_the_version_that_is_cited_is_the_one_that_is_built():
    assert f"version: {__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
