"""Loads servers, and starts those of the peers; a script for an interpreter with the peers' tools, nothing of ours.

It takes one JSON object and prints a JSON line for everything that it measured, at once: a server that hangs later
loses nothing. Ended by SIGTERM, it stops what it started.
"""

import json
import os
import signal
import sys
from pathlib import Path

QUIET_CORES = 0.15


def tell(**found):
    print(json.dumps(found), flush=True)


def blobs_of(path):
    """Requests from a file: 4 bytes of length, little-endian, before each."""
    data, found, at = Path(path).read_bytes(), [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        found.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def measured(load, retries):
    """The quietest of a few tries: another's work on the machine is no figure of ours."""
    best = None
    for _ in range(1 + retries):
        found = load()
        if best is None or found["other_cores"] < best["other_cores"]:
            best = found
        if found["other_cores"] <= QUIET_CORES:
            break
    return best


def load(given):
    """A server that runs already, with requests from a file."""
    if given["peers"]:
        import load as tools
    else:
        import closed_loop as tools
    blobs = blobs_of(given["requests"])
    for c in given["calls"]:
        tell(c=c, begins=True)
        found = measured(
            lambda c=c: tools.run(
                given["url"],
                c=c,
                t=given["seconds"],
                warm=given["warm"],
                pid=given["pid"],
                channels=min(given["channels"], c),
                blobs=blobs,
            ),
            given["retries"],
        )
        tell(**found | {"c": c, "pss_mb": tools.pss_mb(given["pid"])})


def peer(given):
    """A server of the peers: started, asked whether its vectors are right, loaded, stopped."""
    import load as tools
    import run_all

    tools.DATA = given["images"]
    name, network, blobs = given["name"], given["network"], tools.images()
    run_all.MODELS[network] = given["onnx"]
    server = run_all.Server(name, run_all.best_env(name, network), network)
    try:
        server.wait(blobs[0])
        run_all.verify(server, network, blobs)
        for c in given["calls"]:
            tell(c=c, begins=True)
            found = measured(
                lambda c=c: tools.run(
                    server.url,
                    c=c,
                    t=given["seconds"],
                    warm=given["warm"],
                    pid=server.pid,
                    ctype=server.ctype,
                    channels=min(given["channels"], c),
                    blobs=blobs,
                ),
                given["retries"],
            )
            http = server.url.startswith("http")
            tell(**found | {"c": c, "pss_mb": tools.pss_mb(server.pid), "grpc": not http})
    finally:
        server.stop()


def raw(given):
    """The peers' decode and ONNX Runtime in a loop, by their own measure."""
    import load as tools
    import raw as ceiling

    tools.DATA = given["images"]
    found = ceiling.measure(given["onnx"], given["seconds"], (1, 8, 16))
    tell(ways={way: {"img_s": rate, "cpu_ms": cpu} for way, (rate, cpu) in found["e2e"].items()})


def names(given):
    """Which servers the folder knows."""
    import run_all

    tell(names=list(run_all.PEERS))


def main():
    given = json.loads(sys.argv[1])
    # So that `finally` stops a server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if given["peers"]:
        sys.path[:0] = [given["peers"], os.path.join(given["peers"], "peers")]
    {"load": load, "peer": peer, "raw": raw, "names": names}[given["do"]](given)


if __name__ == "__main__":
    main()
