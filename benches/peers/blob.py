#!/usr/bin/env python3
"""Fetches a container's photos with the Python SDK, as one would write it: one by one, or on a pool of threads.

    AZURE_STORAGE_CONNECTION_STRING=… python blob.py simple|parallel CONTAINER OUT

What a careful user adds to the SDK's sample: folders are made, files are written whole under another name and renamed.
"""

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

    def fetch(name: str) -> None:
        path = Path(out) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".part")
        with partial.open("wb") as file:
            client.download_blob(name).readinto(file)
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
