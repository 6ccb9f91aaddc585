"""ARCHITECTURE.md against the code: every module, and what it may use."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
LINE = re.compile(r"^- `(\w+)`: .*?\. Uses: ([\w, ]+)$", re.MULTILINE)


def allowed(heading: str) -> dict[str, set[str]]:
    """Return what each module under a heading may use."""
    section = PAGE.split(f"\n## {heading}", 1)[1].split("\n## ", 1)[0]
    return {
        name: set() if uses == "nothing" else set(uses.split(", "))
        for name, uses in LINE.findall(section)
    }


def files_of(folder: Path, name: str, suffix: str) -> list[Path]:
    """Return the files of a module: one file, or all in its folder."""
    single = folder / f"{name}{suffix}"
    return [single] if single.exists() else sorted((folder / name).rglob(f"*{suffix}"))


def rust_uses(path: Path) -> set[str]:
    """Return the modules of the crate that a Rust file names."""
    code = path.read_text().split("#[cfg(test)]")[0]
    text = re.sub(r"//.*", "", code)
    grouped = re.findall(r"\buse crate::\{([^}]*)\}", text)
    names = {name.strip().split("::")[0] for group in grouped for name in group.split(",")}
    return names | set(re.findall(r"\bcrate::(\w+)", text))


def python_uses(path: Path) -> set[str]:
    """Return the modules of the package that a Python file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            parts = node.module.split(".")
            if parts[0] == "nnprune":
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("nnprune.")}
    return found


RUST = allowed("rust/core")
PYTHON = allowed("python/nnprune")


def test_every_rust_module_has_its_line() -> None:
    folder = ROOT / "rust/core/src"
    present = {path.stem for path in folder.iterdir()} - {"lib"}
    assert present == set(RUST)


def test_every_python_module_has_its_line() -> None:
    folder = ROOT / "python/nnprune"
    present = {path.name.split(".")[0] for path in folder.iterdir()}
    present -= {"__init__", "__pycache__", "py", "demo_files"}
    assert present == set(PYTHON)


@pytest.mark.parametrize("name", sorted(RUST))
def test_rust_module_uses_only_what_its_line_names(name: str) -> None:
    used = set[str]().union(*map(rust_uses, files_of(ROOT / "rust/core/src", name, ".rs")))
    assert used - {name} <= RUST[name] | {"Error", "Result"}


@pytest.mark.parametrize("name", sorted(set(PYTHON) - {"_core"}))
def test_python_module_uses_only_what_its_line_names(name: str) -> None:
    used = set[str]().union(*map(python_uses, files_of(ROOT / "python/nnprune", name, ".py")))
    assert used - {name, "__version__"} <= PYTHON[name]


def test_only_keras_io_gradients_and_attacks_import_keras() -> None:
    for path in (ROOT / "python/nnprune").rglob("*.py"):
        if {"keras_io", "attacks"} & set(path.parts) or path.name == "gradients.py":
            continue
        tree = ast.parse(path.read_text())
        guarded = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if node in guarded or not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            text = ast.unparse(node)
            assert not re.search(r"\b(keras|tensorflow|jax|torch)\b", text), f"{path}: {text}"


def test_no_module_uses_one_listed_after_it() -> None:
    for lines in (RUST, PYTHON):
        order = list(lines)
        for name, uses in lines.items():
            late = {used for used in uses if order.index(used) > order.index(name)}
            assert not late
