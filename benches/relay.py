#!/usr/bin/env python3
"""Measures how many events a second `mynah relay` takes on one core, each on the disk before it is acknowledged.

    cargo build --release --bin mynah
    python benches/relay.py [--seconds 10] [--callers 64] [--batch 1] [--runs 3] [--state DIR] [--json FILE]

The relay is bound to one core, the callers to the others. Each caller has a connection and sends the next delivery when
the last was answered, as Event Grid does. In the middle of the last run the relay is killed and started again: whatever
was acknowledged must be known to it. The peer is the simplest thing that keeps the promise: append a line, sync, once
for each delivery. The ratio is of events a second.
"""

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
KEY = "key-of-the-benchmark-9411"
SUBJECT = "/blobServices/default/containers/in/blobs/cat/1.jpg"


class Failed(Exception):
    """A relay that does not do what it should."""


class Relay:
    """A relay on one core. It never gets to the service: uploads stay pending."""

    def __init__(self, program: Path, state: Path, core: int):
        command = [program, "relay", "--listen", "127.0.0.1:0", "--state", state, "--quiet-for", "86400",
                   "--max-wait", "86400", "--source", "https://photos.blob.core.windows.net/in",
                   "--organization", "http://127.0.0.1:9/none", "--project", "p", "--pipeline", "1"]
        self.process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, text=True,
            env={"MYNAH_RELAY_KEY": KEY, "AZURE_DEVOPS_EXT_PAT": "unused-token-9411"},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        line = self.process.stdout.readline().strip()
        if not line.startswith("listening on http://"):
            raise Failed(f"the relay said `{line}`")
        host, port = line.removeprefix("listening on http://").removesuffix("/events").split(":")
        self.address = (host, int(port))

    def figure(self, name: str) -> int:
        connection = http.client.HTTPConnection(*self.address)
        connection.request("GET", "/metrics", headers={"x-mynah-key": KEY})
        text = connection.getresponse().read().decode()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name + " "))

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def event(name: str) -> str:
    return ('{"specversion":"1.0","type":"Microsoft.Storage.BlobCreated","source":"/x/storageAccounts/photos",'
            f'"id":"{name}","subject":"{SUBJECT}","data":{{"api":"PutBlob","contentLength":524288}}}}')


def call(address: tuple[str, int], who: str, batch: int, until: float, known: list[str]) -> None:
    """Delivers until the time is over or the connection ends; adds what was acknowledged to `known`."""
    with socket.create_connection(address) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = 0
        while time.monotonic() < until:
            names = [f"{who}-{number}-{at}" for at in range(batch)]
            body = "[" + ",".join(map(event, names)) + "]"
            head = f"POST /events HTTP/1.1\r\nhost: r\r\nx-mynah-key: {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
            try:
                line.sendall((head + body).encode())
                answer = line.recv(4096)
            except OSError:
                return
            if not answer:
                return
            if not answer.startswith(b"HTTP/1.1 200"):
                raise Failed(answer.decode())
            known.extend(names)
            number += 1


def burst(relay: Relay, options: argparse.Namespace, run: str, kill: bool) -> tuple[list[str], float, float]:
    """What was acknowledged, the seconds it took, and the relay's processor seconds."""
    lists: list[list[str]] = [[] for _ in range(options.callers)]
    before, start = relay.cpu_seconds(), time.monotonic()
    until = start + options.seconds
    threads = [
        threading.Thread(target=call, args=(relay.address, f"{run}-{at}", options.batch, until, lists[at]))
        for at in range(options.callers)
    ]
    for thread in threads:
        thread.start()
    cpu = 0.0
    if kill:
        time.sleep(options.seconds / 2)
        relay.kill()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - start
    if not kill:
        cpu = relay.cpu_seconds() - before
    return [name for part in lists for name in part], seconds, cpu


def naive(folder: Path, seconds: float) -> float:
    """Lines a second where each is synced by itself."""
    count, start = 0, time.monotonic()
    with (folder / "naive").open("ab", buffering=0) as file:
        while time.monotonic() < start + seconds:
            file.write(event(str(count)).encode() + b"\n")
            os.fdatasync(file.fileno())
            count += 1
    return count / (time.monotonic() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, help="the program `mynah`; the release build without it")
    parser.add_argument("--state", type=Path, help="a folder on the disk to measure; a temporary one without it")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1, help="events in a delivery; Event Grid's default is 1")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    program = options.program or target / "release" / "mynah"
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, set(cores[1:]))
    rates, cpus, naives = [], [], []
    with tempfile.TemporaryDirectory(dir=options.state) as scratch:
        state = Path(scratch)
        for run in range(options.runs):
            relay = Relay(program, state / str(run), cores[0])
            known, seconds, cpu = burst(relay, options, str(run), kill=False)
            records = relay.figure("mynah_relay_journal_records_total")
            if relay.figure("mynah_relay_pending") != len(known):
                raise Failed("the relay has taken another number of events than it acknowledged")
            relay.kill()
            rates.append(len(known) / seconds)
            cpus.append(cpu / len(known) * 1e6)
            naives.append(naive(state, 2))
            print(f"run {run}: {rates[-1]:.0f} events/s, {cpus[-1]:.0f} µs of processor each, "
                  f"{len(known) / max(records, 1):.1f} a sync; a sync each: {naives[-1]:.0f}/s")
        relay = Relay(program, state / "killed", cores[0])
        known, _, _ = burst(relay, options, "killed", kill=True)
        relay = Relay(program, state / "killed", cores[0])
        connection = http.client.HTTPConnection(*relay.address)
        for at in range(0, len(known), 1000):
            body = "[" + ",".join(map(event, known[at:at + 1000])) + "]"
            connection.request("POST", "/events", body, {"x-mynah-key": KEY})
            connection.getresponse().read()
        lost = len(known) - relay.figure("mynah_relay_duplicates_total")
        relay.kill()
    rate, peer = statistics.median(rates), statistics.median(naives)
    print(f"killed after {len(known)} acknowledged events: {lost} lost")
    print(f"median: {rate:.0f} events/s on one core, {rate / peer:.1f} times a sync for each")
    if options.json:
        options.json.write_text(json.dumps({
            "events_per_second": rate, "cpu_microseconds": statistics.median(cpus), "naive_per_second": peer,
            "ratio": rate / peer, "acknowledged_before_kill": len(known), "lost": lost,
        }) + "\n")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
