"""Builds the wheel: the package, and the shared library in it. Needs nothing but Python.

As a build backend (PEP 517) it takes the library from `ICP_LIBRARY`; as a command it is
`python3 backend.py <library> <folder>`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import pathlib
import sys
import sysconfig
import zipfile

HERE = pathlib.Path(__file__).parent
VERSION = "0.1.0"
# Always the same bytes of the same input.
MOMENT = (2020, 1, 1, 0, 0, 0)


def tag() -> str:
    """One wheel is good for every Python 3 of a platform, as no extension is compiled."""
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return f"py3-none-{platform}"


def metadata() -> str:
    readme = (HERE / "README.md").read_text()
    return (
        f"Metadata-Version: 2.4\nName: icp\nVersion: {VERSION}\n"
        "Summary: An integration control plane in your process.\n"
        "License-Expression: MIT OR Apache-2.0\nRequires-Python: >=3.10\n"
        f"Description-Content-Type: text/markdown\n\n{readme}"
    )


def build(library: str, folder: str) -> str:
    """Writes the wheel into `folder`, and answers its name."""
    info = f"icp-{VERSION}.dist-info"
    files = {
        f"icp/{path.name}": path.read_bytes()
        for path in sorted((HERE / "src" / "icp").iterdir())
        if path.suffix in (".py", ".typed")
    }
    files["icp/_lib/libicp.so.1"] = pathlib.Path(library).read_bytes()
    files[f"{info}/METADATA"] = metadata().encode()
    wheel = f"Wheel-Version: 1.0\nGenerator: icp\nRoot-Is-Purelib: false\nTag: {tag()}\n"
    files[f"{info}/WHEEL"] = wheel.encode()
    record = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(data)}")
    record.append(f"{info}/RECORD,,")
    files[f"{info}/RECORD"] = ("\n".join(record) + "\n").encode()
    name = f"icp-{VERSION}-{tag()}.whl"
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, MOMENT)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return name


def build_wheel(folder: str, settings: object = None, info: str | None = None) -> str:
    library = os.environ.get("ICP_LIBRARY")
    if not library:
        raise SystemExit("set ICP_LIBRARY to the shared library that goes into the wheel")
    return build(library, folder)


def get_requires_for_build_wheel(settings: object = None) -> list[str]:
    return []


if __name__ == "__main__":
    print(build(sys.argv[1], sys.argv[2]))
