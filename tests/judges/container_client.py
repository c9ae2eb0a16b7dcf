"""A camera module as people wrote them for the Custom Vision container: it knows the container's API and nothing of us.

Usage: container_client.py HOST:PORT LABEL=PICTURE...
Exits with an error unless every picture is answered with its label, by each of the ways such modules ask.
"""

import sys

import requests

session = requests.Session()


def best(response):
    """What such a module does with an answer."""
    response.raise_for_status()
    predictions = response.json()["predictions"]
    top = max(predictions, key=lambda prediction: prediction["probability"])
    assert set(top) >= {"tagName", "probability", "tagId", "boundingBox"}, top
    return top["tagName"]


def main(host, pairs):
    asked = 0
    for label, path in pairs:
        picture = open(path, "rb").read()
        octets = {"Content-Type": "application/octet-stream"}
        ways = [
            lambda: session.post(f"http://{host}/image", headers=octets, data=picture, timeout=10),
            lambda: session.post(f"http://{host}/image", files={"imageData": (path, picture)}, timeout=10),
            lambda: session.post(
                f"http://{host}/fruit/classify/iterations/Iteration1/image/nostore",
                headers=octets,
                data=picture,
                timeout=10,
            ),
        ]
        for way in ways:
            found = best(way())
            assert found == label, f"{path}: {found} instead of {label}"
            asked += 1
    broken = session.post(f"http://{host}/image", headers=octets, data=b"no picture", timeout=10)
    assert broken.status_code >= 400, f"no picture was answered with {broken.status_code}"
    text = session.get(f"http://{host}/", timeout=10)
    assert text.ok, text.status_code
    print(f"a client of the Custom Vision container: {asked} answers are right")


main(sys.argv[1], [pair.split("=", 1) for pair in sys.argv[2:]])
