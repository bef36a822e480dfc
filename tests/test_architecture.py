"""An import goes only downwards, and light commands stay light."""

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import headway

SOURCE = Path(headway.__file__).parent
# From the top. Rooms on one line do not know each other.
FLOORS = [
    ["__main__"],
    ["__init__", "cli"],
    ["api"],
    ["reporting"],
    ["studies"],
    ["published"],
    ["circuits"],
    ["clusters", "interventions"],
    ["attention"],
    ["abilities"],
    ["sweep"],
    ["integrity"],
    ["models"],
    ["corpora"],
    ["suites"],
    ["nano"],
    ["store"],
    ["stats"],
    ["options"],
    ["workers"],
    ["allocation", "devices"],
    ["tables", "progress", "errors", "text"],
    ["known_abilities", "known_scores"],
    ["interrupts"],
    ["terminal"],
]
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} has a relative import"
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "headway" else {node.module}
            )
    return {name for name in found if name.split(".")[0] == "headway"}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_downwards(path):
    here = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if here == "__init__":
        return
    for name in imports(path):
        there = room(name)
        if there in {here, "__version__"}:
            continue
        assert FLOOR[there] > FLOOR[here], f"{path.relative_to(SOURCE)} imports {name}, which is not below it"


def loaded_by(code: str) -> set[str]:
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


HEAVY = {"torch", "transformers", "altair", "sklearn", "vl_convert", "ray", "scipy", "pandas"}


def test_help_and_imports_load_nothing_heavy():
    assert not loaded_by("import headway, headway.cli") & (HEAVY | {"polars", "numpy"})


COMPLETION = {
    "_HEADWAY_COMPLETE": "complete_bash",
    "COMP_WORDS": "headway measure nano --scores prev,",
    "COMP_CWORD": "4",
}


@pytest.mark.parametrize("words", ["--help", "measure --help", "nano train --help", "--version", COMPLETION])
def test_help_and_completion_load_nothing_heavy(words, monkeypatch):
    """What makes them answer in under half a second: polars alone takes 0.2 s, torch and transformers 3 s."""
    for name, value in words.items() if isinstance(words, dict) else ():
        monkeypatch.setenv(name, value)
    given = "" if isinstance(words, dict) else words
    loaded = loaded_by(
        f"import atexit, sys\nsys.argv = ['headway', *{given.split()}]\n"
        "from headway.__main__ import main\ntry: main()\nexcept SystemExit: pass"
    )
    assert "typer" in loaded
    assert not loaded & (HEAVY | {"polars", "numpy", "huggingface_hub"})


def test_statistics_and_studies_know_nothing_of_torch():
    assert not loaded_by("import headway.stats, headway.studies") & {"torch", "transformers"}


def test_jobs_know_nothing_of_torch_before_they_compute():
    """The process that hands checkpoints to its workers would wait three seconds for it."""
    jobs = (
        "abilities.job, attention.job, attention.pattern_job, circuits.description_job, circuits.job, circuits.path_job, "
        "clusters.job, interventions.ablations, interventions.head_choice, interventions.job, interventions.prompts, "
        "interventions.selection, sweep"
    )
    named = ", ".join(f"headway.{job}" for job in jobs.split(", "))
    assert not loaded_by(f"import {named}") & {"torch", "transformers"}


@pytest.mark.parametrize("package", ["attention", "interventions", "models"])
def test_names_that_are_imported_on_use_are_there(package):
    """A module of the same name would hide the function once it was imported."""
    room = getattr(headway, package)
    modules = {name for _, name, _ in pkgutil.iter_modules(room.__path__)}
    assert not modules & set(room.__all__)
    assert all(getattr(room, name) is not None for name in room.__all__)
    with pytest.raises(AttributeError):
        getattr(room, "mesure")  # noqa: B009


def test_exported_names_exist():
    for name in headway.__all__:
        assert callable(getattr(headway, name)), name
    with pytest.raises(AttributeError, match="headway has no 'mesure'"):
        headway.mesure  # noqa: B018


def test_help_on_a_function_loads_no_torch():
    assert "torch" not in loaded_by("import headway, pydoc; pydoc.render_doc(headway.measure)")


def imported_by(path: Path) -> set[str]:
    """The modules of headway that `path` imports: at its top, for types, and inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "headway":
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_no_module_imports_itself_on_a_circle():
    names = {
        path: ".".join(("headway", *path.relative_to(SOURCE).with_suffix("").parts)) for path in SOURCE.rglob("*.py")
    }
    graph = {name.removesuffix(".__init__"): imported_by(path) for path, name in names.items()}
    done = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a circle: {' -> '.join([*above[above.index(name) :], name])}"
        if name in done:
            return
        for imported in sorted(graph[name] & graph.keys()):
            # A package's own module may be imported while the package is: it is no circle unless that module asks for it.
            if imported != name and not name.startswith(f"{imported}."):
                visit(imported, (*above, name))
        done.add(name)

    for name in sorted(graph):
        visit(name, ())
