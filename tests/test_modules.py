"""No module of the packages is left over: something imports it, or starts it by its name."""

from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PACKAGES = ("flows", "tasks", "infra", "torl_core")
STARTS = ("Makefile", "pyproject.toml", *(f"{package}/**/*.py" for package in PACKAGES))
"""Files that start modules by name: commands and child processes."""
FAKES = ["torl_core.engines.scripted"]
"""They ship for whoever tests a part of their own without an engine."""


def test_every_module_is_imported_or_started() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    texts = {path: path.read_text() for pattern in STARTS for path in ROOT.glob(pattern)}
    files = {module: ROOT / f"{module.replace('.', '/')}.py" for module in graph.modules}
    imported = {module for module in files if graph.find_modules_that_directly_import(module)}
    started = {name for name in files for path, text in texts.items() if path != files[name] and name in text}
    unused = [name for name, path in files.items() if path.exists() and name not in imported | started]
    assert sorted(unused) == FAKES
