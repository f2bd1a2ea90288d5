"""Finds names that are used and defined nowhere.

Shape strings of jaxtyping look like names to linters and type checkers, so their checks of names are off. Here every
string in brackets is taken out of a copy of the code first, and the linter looks at the copy.

    python scripts/undefined_names.py src tests benchmarks scripts examples docs
"""

import ast
import subprocess
import sys
import tempfile
from pathlib import Path


class _WithoutStrings(ast.NodeTransformer):
    """Text that is no code becomes an empty text; names in `__all__` stay, as they must be defined."""

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        exported = any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
        return node if exported else self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Strings inside brackets are shapes or keys."""
        self.generic_visit(node)
        node.slice = _NoStrings().visit(node.slice)
        return node


class _NoStrings(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.copy_location(ast.Constant(0), node) if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node


def main(folders: list[str]) -> int:
    with tempfile.TemporaryDirectory() as copy:
        for folder in folders:
            for path in Path(folder).rglob("*.py"):
                target = Path(copy) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(ast.unparse(_WithoutStrings().visit(ast.parse(path.read_text()))))
        command = [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--isolated",
            "--select",
            "F821",
            "--output-format",
            "concise",
        ]
        found = subprocess.run([*command, copy], capture_output=True, text=True, check=False)
    names = [line.replace(f"{copy}/", "") for line in found.stdout.splitlines() if "F821" in line]
    print("\n".join(names) if names else "All names are defined.")
    return 1 if names or found.returncode not in (0, 1) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["src", "tests", "benchmarks", "scripts", "examples", "docs"]))
