"""Makes the blocking twins of the groups in `_aio_groups.py`: the same text without `async` and `await`.

Run it after a change of these; a test says when it was forgotten.
"""

import pathlib
import re

FOLDER = pathlib.Path(__file__).parent / "src" / "icp"
HEAD = '''"""The groups of the blocking engine; made by `make_sync.py` of `_aio_groups.py`, not by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._ops import Op
from .types import Document, Documents, Ids

if TYPE_CHECKING:
    from ._sync import Engine

'''


def made() -> str:
    text = (FOLDER / "_aio_groups.py").read_text()
    groups = text[text.index("\nclass Kind:") :]
    for find, put in (
        (r"\basync def\b", "def"),
        (r"\bawait ", ""),
        (r"Awaitable\[Any\]", "Any"),
        (r"\bAsyncEngine\b", "Engine"),
    ):
        groups = re.sub(find, put, groups)
    return HEAD + groups.rstrip() + "\n"


if __name__ == "__main__":
    (FOLDER / "_groups.py").write_text(made())
