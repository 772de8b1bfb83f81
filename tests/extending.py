"""The kinds of docs/extending.md as an installed package: what stands in its blocks, written to a folder."""

import os
import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(?:python|toml)\n# ((?:my_kinds|conf)/\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> dict[str, str]:
    """The files of the page by their path."""
    return dict(BLOCK.findall((CHECKOUT / "docs" / "extending.md").read_text(encoding="utf-8")))


def install(folder: Path) -> dict[str, str]:
    """Writes the files to a folder, and beside them what an installer would; the environment to run with."""
    for name, content in blocks().items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    metadata = folder / "my_kinds-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: my-kinds\nVersion: 1.0\n", encoding="utf-8"
    )
    (metadata / "entry_points.txt").write_text("[ringlake.kinds]\nmy_kinds = my_kinds\n", encoding="utf-8")
    return {**os.environ, "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{folder}"}
