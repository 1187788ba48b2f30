"""Callers that each send the next request when the last was answered; gRPC, requests as finished bytes.

Gives the same figures, by the same names, as the load generator of the peers, which is used where it is at hand.
"""

import asyncio
import resource
import threading
import time
from urllib.parse import urlparse

import grpc
import psutil

MESSAGE_BYTES = 64 * 1024 * 1024
SAMPLE_S = 0.7
SHORTEST_REPLY = 512


def processes(pid):
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def total(pid, figure):
    """The sum of a figure over a process and its descendants; those that just ended count nothing."""
    found = 0.0
    for process in processes(pid) if pid else ():
        try:
            found += figure(process)
        except psutil.Error:
            continue
    return found


def cpu_seconds(pid):
    return total(pid, lambda process: sum(process.cpu_times()[:2]))


def rss_mb(pid):
    return total(pid, lambda process: process.memory_info().rss) / 2**20


def pss_mb(pid):
    return total(pid, lambda process: process.memory_full_info().pss) / 2**20


def machine_busy():
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq + times.steal


def own_cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Loop:
    """C callers over a few channels."""

    def __init__(self, url, c, channels, blobs):
        parts = urlparse(url)
        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self.channels = [grpc.aio.insecure_channel(parts.netloc, options=options) for _ in range(channels)]
        self.calls = [self.channels[k % channels].unary_unary(parts.path) for k in range(c)]
        self.blobs = blobs
        self.latencies, self.done, self.errors, self.first = [], 0, 0, []

    async def phase(self, seconds):
        """Loads for so long, until the last answer; forgets what was before."""
        self.latencies, self.done, self.errors, self.first = [], 0, 0, []
        until = time.perf_counter() + seconds
        await asyncio.gather(*(self._caller(k, until) for k in range(len(self.calls))))

    async def _caller(self, k, until):
        number = k * 7
        while (begun := time.perf_counter()) < until:
            try:
                body = await self.calls[k](self.blobs[number % len(self.blobs)])
            except grpc.aio.AioRpcError as error:
                self._failed(f"{error.code().name}: {error.details()}")
                await asyncio.sleep(0.01)
            else:
                ended = time.perf_counter()
                if len(body) < SHORTEST_REPLY:
                    self._failed(f"a reply of {len(body)} bytes")
                    continue
                self.done += 1
                if ended <= until:
                    self.latencies.append(ended - begun)
            number += 1

    def _failed(self, reason):
        self.errors += 1
        if len(self.first) < 3:
            self.first.append(reason[:300])


async def _run(url, c, t, warm, pid, channels, blobs):
    loop = Loop(url, c, channels, blobs)
    try:
        await loop.phase(warm)
        peak, stop = [rss_mb(pid)], threading.Event()

        def sample():
            while not stop.wait(SAMPLE_S):
                peak[0] = max(peak[0], rss_mb(pid))

        sampler = threading.Thread(target=sample)
        sampler.start()
        server, own, busy, begun = cpu_seconds(pid), own_cpu(), machine_busy(), time.perf_counter()
        try:
            await loop.phase(t)
        finally:
            stop.set()
            sampler.join()
        wall = time.perf_counter() - begun
        own, server, busy = own_cpu() - own, cpu_seconds(pid) - server, machine_busy() - busy
    finally:
        for channel in loop.channels:
            await channel.close()
    ordered, done = sorted(loop.latencies) or [0.0], max(loop.done, 1)

    def at(share):
        return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {
        "c": c,
        "n": loop.done,
        "wall": wall,
        # From idle to idle, so that CPU an image is exact.
        "img_s": loop.done / wall,
        "p50": at(0.5),
        "p95": at(0.95),
        "p99": at(0.99),
        "errors": loop.errors,
        "first_errors": loop.first,
        "server_cores": server / wall,
        "server_ms_img": 1e3 * server / done,
        "gen_cores": own / wall,
        "gen_ms_img": 1e3 * own / done,
        "peak_rss_mb": peak[0],
        "other_cores": max(0.0, busy - server - own) / wall,
    }


def run(url, c, t, warm, pid, channels, blobs):
    """One load; calls a second are named ``img_s``."""
    return asyncio.run(_run(url, c, t, warm, pid, channels, blobs))
