#!/usr/bin/env python3
"""Times an import from Blob Storage beside the Python SDK and a bare HTTP client, in turn, and prints their ratios.

    cargo build --release --bin import-images
    python benches/blob.py --azurite PATH/TO/azurite-blob [--photos DIR] [--count 1000] [--runs 3] [--json FILE]

Azurite (npm package `azurite`) serves the photos on this machine. Without --photos they are drawn: noise of about
100 KB each. A round is: the SDK one by one, the SDK on a pool of threads, the same with each photo looked at as an import looks at
it, `curl` with the same addresses, an import into an empty folder, the same import again. Then a container that lists
1,000 and one that lists 100,000 blobs are imported, for the peak of memory. Ratios are of medians.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

REPOSITORY = Path(__file__).resolve().parents[1]
PEER = REPOSITORY / "benches" / "peers" / "blob.py"
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"}
ACCOUNT = "devstoreaccount1"
# The same for every Azurite (its documentation).
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
CONTAINER = "photos"


class Failed(Exception):
    """A run that ended with an error, or an input that cannot be measured."""


@dataclass(frozen=True)
class Run:
    """One finished process."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    stdout: str


def measure(command: list[str], log: Path, environment: dict[str, str]) -> Run:
    """Runs a command to its end; what it prints goes to files, so that no pipe slows it."""
    out = log.with_suffix(".out")
    with out.open("w") as stdout, log.open("w") as stderr:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=os.environ | environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Failed(f"`{' '.join(command)}` ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out.read_text())


def draw(folder: Path, count: int) -> None:
    """Photos of four labels, all different: noise over a slope, as JPEG."""
    import numpy
    from PIL import Image

    noise = numpy.random.default_rng(7)
    for number in range(count):
        pixels = noise.integers(0, 256, (60, 80, 3), dtype=numpy.uint8)
        image = Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC)
        path = folder / f"label-{number % 4}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, "JPEG", quality=88)


def choose(folder: Path, count: int) -> list[str]:
    """The names of at most `count` photos below `folder`, drawn evenly."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return names if len(names) <= count else sorted(random.Random(7).sample(names, count))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fill(connection: str, folder: Path, names: list[str]) -> None:
    """Uploads the photos, and prints a signature that reads them."""
    from azure.storage.blob import ContainerClient, ContentSettings, generate_container_sas

    client = ContainerClient.from_connection_string(connection, CONTAINER)
    deadline = time.monotonic() + 20
    while True:
        try:
            client.create_container()
            break
        except Exception as error:
            if time.monotonic() > deadline:
                raise Failed("Azurite did not start") from error
            time.sleep(0.2)
    for name in names:
        content = (folder / name).read_bytes()
        settings = ContentSettings(content_type="image/jpeg", content_md5=bytearray(hashlib.md5(content).digest()))
        client.upload_blob(name, content, content_settings=settings)
    until = datetime.now(timezone.utc) + timedelta(hours=6)
    print(generate_container_sas(ACCOUNT, CONTAINER, account_key=KEY, permission="rl", expiry=until))


def apart(work: Path, call: str, *arguments: object) -> str:
    """Calls a function of this file in a process of its own: the peak the kernel tells of a child is at least what its
    parent held when it was started, so the one that measures stays small."""
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from pathlib import Path, PosixPath; import blob; "
    file = work / "call.py"
    file.write_text(script + f"blob.{call}(*{arguments!r})\n")
    return subprocess.run([sys.executable, str(file)], check=True, capture_output=True, text=True).stdout.strip()


def curl_list(base: str, signature: str, names: list[str], out: Path, config: Path) -> None:
    """What `curl` is told: an address and a file for each photo."""
    lines = []
    for name in names:
        lines.append(f'url = "{base}/{quote(name)}?{signature}"\noutput = "{out / name}"')
    config.write_text("\n".join(lines) + "\n")


class Listing(BaseHTTPRequestHandler):
    """A container with many empty blobs and ten photos, made up while it is asked."""

    protocol_version = "HTTP/1.1"
    total = 0
    photos: list[tuple[str, bytes]] = []
    lists = 0

    def do_GET(self) -> None:
        """Answers List Blobs and Get Blob."""
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        if query.get("comp") == ["list"]:
            type(self).lists += 1
            start = int(query.get("marker", ["0"])[0])
            end = min(start + 5000, self.total)
            entry = "<Blob><Name>{}</Name><Properties><Etag>0x{:X}</Etag><Content-Length>{}</Content-Length>"
            entry += "</Properties></Blob>"
            body = ["<EnumerationResults><Blobs>"]
            if start == 0:
                body += [entry.format(name, 1, len(content)) for name, content in self.photos]
            body += [entry.format(f"label-0/some/folder/empty-{i:07}.jpg", i, 0) for i in range(start, end)]
            marker = str(end) if end < self.total else ""
            body.append(f"</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>")
            content = "".join(body).encode()
        else:
            content = dict(self.photos)["/".join(parts.path.split("/")[3:])]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def peak_of_listing(program: str, total: int, photos: list[tuple[str, bytes]], work: Path) -> Run:
    """An import from a container that lists `total` blobs."""
    handler = type("Counted", (Listing,), {"total": total, "photos": photos, "lists": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    source = f"http://127.0.0.1:{server.server_address[1]}/{ACCOUNT}/many"
    out = work / f"many-{total}"
    try:
        return measure(
            [program, "--source", source, "--out", str(out), "--quiet"], work / "many.log", {"AZURE_STORAGE_KEY": KEY}
        )
    finally:
        server.shutdown()
        shutil.rmtree(out, ignore_errors=True)


def main() -> None:
    """Measures, prints, and writes --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--azurite", required=True, help="the program azurite-blob")
    parser.add_argument("--photos", type=Path, help="a folder per label")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--program", default=str(REPOSITORY / "target" / "release" / "import-images"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="mynah-blob-"))
    folder = options.photos or work / "photos"
    if not options.photos:
        apart(work, "draw", folder, options.count)
    names = choose(folder, options.count)
    size = sum((folder / name).stat().st_size for name in names)
    print(f"{len(names)} photos, {size / 2**20:.1f} MiB")
    port = free_port()
    azurite = subprocess.Popen(
        [options.azurite, "--silent", "--disableTelemetry", "--location", str(work / "azurite"), "--blobPort", str(port), "--skipApiVersionCheck"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    connection = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint};"
    environment = {"AZURE_STORAGE_CONNECTION_STRING": connection}
    runs: dict[str, list[Run]] = {name: [] for name in ["simple", "parallel", "checked", "curl", "import", "again"]}
    try:
        signature = apart(work, "fill", connection, folder, names)
        for round_number in range(options.runs):
            out = work / f"out-{round_number}"
            for way in ["simple", "parallel", "checked"]:
                command = [sys.executable, str(PEER), way, CONTAINER, str(out / way)]
                runs[way].append(measure(command, work / "peer.log", environment))
            curl_list(f"{endpoint}/{CONTAINER}", signature, names, out / "curl", work / "curl.conf")
            command = ["curl", "--silent", "--show-error", "--fail", "--create-dirs"]
            command += ["--parallel", "--parallel-max", "16", "--config", str(work / "curl.conf")]
            runs["curl"].append(measure(command, work / "curl.log", {}))
            ours = [options.program, "--source", f"{endpoint}/{CONTAINER}", "--out", str(out / "import"), "--quiet"]
            for way in ["import", "again"]:
                runs[way].append(measure(ours, work / "ours.log", environment))
            shutil.rmtree(out)
    finally:
        azurite.terminate()
        azurite.wait()
    labels = sorted({name.split("/")[0] for name in names})[:2]
    few = [name for label in labels for name in [name for name in names if name.startswith(label + "/")][:5]]
    few = [(name, (folder / name).read_bytes()) for name in few]
    peaks = {total: peak_of_listing(options.program, total, few, work) for total in [1000, 100_000]}
    shutil.rmtree(work, ignore_errors=True)

    median = {name: statistics.median(run.seconds for run in all_runs) for name, all_runs in runs.items()}
    cpu = {name: statistics.median(run.cpu_seconds for run in all_runs) for name, all_runs in runs.items()}
    peak = {name: max(run.peak_mib for run in all_runs) for name, all_runs in runs.items()}
    for name in runs:
        spread = [run.seconds for run in runs[name]]
        print(
            f"{name:9} {median[name]:7.2f} s ({min(spread):.2f} to {max(spread):.2f}), "
            f"{cpu[name]:6.2f} s of processor, {peak[name]:5.0f} MiB"
        )
    print(f"SDK one by one / import:  {median['simple'] / median['import']:.2f} (aim 5)")
    print(f"SDK on threads / import:  {median['parallel'] / median['import']:.2f} (aim 1.5)")
    print(f"the same, checked / import: {median['checked'] / median['import']:.2f}")
    print(f"SDK one by one / curl:    {median['simple'] / median['curl']:.2f}")
    print(f"curl / import:            {median['curl'] / median['import']:.2f}")
    print(f"import / again:           {median['import'] / median['again']:.1f}")
    for total, run in peaks.items():
        print(f"{total} listed: {run.peak_mib:.0f} MiB at the peak, {run.seconds:.2f} s")
    if options.json:
        figures = {
            "photos": len(names),
            "mebibytes": size / 2**20,
            "seconds": median,
            "cpuSeconds": cpu,
            "peakMebibytes": peak,
            "listedPeakMebibytes": {str(total): run.peak_mib for total, run in peaks.items()},
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(str(failed))
