#!/usr/bin/env python3
"""Fetches a container's photos with the Python SDK, as one would write it: one by one, or on a pool of threads.

    AZURE_STORAGE_CONNECTION_STRING=… python blob.py simple|parallel|checked CONTAINER OUT

What a careful user adds to the SDK's sample: folders are made, files are written whole under another name and renamed.
With `checked`, the pool's threads also find out of each photo what an import records: the SHA-256 of its bytes, that it
can be decoded to its end, and 17 × 16 grey cells to tell near-duplicates by (Pillow).
"""

import hashlib
import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from azure.storage.blob import ContainerClient

# What the SDK's own connection pool holds by default is 10; more threads would wait for connections.
THREADS = 10


def main() -> None:
    way, container, out = sys.argv[1:4]
    client = ContainerClient.from_connection_string(os.environ["AZURE_STORAGE_CONNECTION_STRING"], container)

    def look(content: bytes) -> None:
        from PIL import Image

        hashlib.sha256(content).hexdigest()
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            image.convert("L").resize((17, 16), Image.Resampling.BILINEAR)

    def fetch(name: str) -> None:
        path = Path(out) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".part")
        with partial.open("wb") as file:
            client.download_blob(name).readinto(file)
        if way == "checked":
            look(partial.read_bytes())
        partial.rename(path)

    names = [blob.name for blob in client.list_blobs()]
    if way == "simple":
        for name in names:
            fetch(name)
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(fetch, names):
                pass
    print(len(names))


if __name__ == "__main__":
    main()
