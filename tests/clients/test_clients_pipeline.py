"""Many requests at once: bounded, in order, lazily, and ended together. Events, never time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading

import grpc
import numpy as np
import pytest

import trunkline
from trunkline._options import Rim


def endless(read: list[int]):
    for i in itertools.count():
        read.append(i)
        yield str(i).encode()


def test_an_endless_input_is_read_no_further_than_needed(fake, call, expected):
    read: list[int] = []
    options = {"chunk_images": 5, "max_in_flight": 3}
    parts = call(fake, "embed_iter", endless(read), take=4, client=options)
    vectors = np.concatenate([part.vectors for part in parts])
    np.testing.assert_array_equal(vectors, [expected(str(i).encode()) for i in range(20)])
    # Each result may have made room for one more chunk; three are on their way and one is in hand.
    assert len(read) <= (4 + 3 + 1) * 5


def test_a_server_that_does_not_answer_holds_the_reading_up(fake):
    gate = fake.gates[b"0"] = threading.Event()
    read: list[int] = []
    with trunkline.Client(fake.target, chunk_images=5, max_in_flight=3, channels=2) as client:
        results = client.embed_iter(endless(read))
        first: list[trunkline.EmbedResult] = []
        reader = threading.Thread(target=lambda: first.append(next(results)))
        reader.start()
        fake.wait_for(lambda f: len(f.requests) == 3 and f.ended == 2)
        assert reader.is_alive()
        gate.set()
        reader.join()
        assert first[0].start == 0
        assert len(read) <= (3 + 1) * 5
        assert len(fake.requests) == 3
        results.close()


def test_the_same_holds_for_tasks(fake):
    gate = fake.gates[b"0"] = threading.Event()
    read: list[int] = []

    async def main() -> None:
        options = {"chunk_images": 5, "max_in_flight": 3}
        async with (
            trunkline.AsyncClient(fake.target, **options) as client,
            contextlib.aclosing(client.embed_iter(endless(read))) as results,
        ):
            first = asyncio.create_task(anext(results))
            await asyncio.to_thread(fake.wait_for, lambda f: len(f.requests) == 3 and f.ended == 2)
            assert not first.done()
            gate.set()
            assert (await first).start == 0
            assert len(read) <= (3 + 1) * 5

    asyncio.run(main())


def test_requests_run_side_by_side_up_to_the_limit(fake, call):
    gate = threading.Event()
    images = [str(i).encode() for i in range(12)]
    fake.gates |= dict.fromkeys(images, gate)
    opener = threading.Thread(target=lambda: (fake.wait_for(lambda f: f.running == 4), gate.set()))
    opener.start()
    call(fake, "embed", images, client={"chunk_images": 1, "max_in_flight": 4})
    opener.join()
    assert fake.most_running == 4


def test_answers_out_of_order_come_out_in_order(fake, call, expected):
    images = [str(i).encode() for i in range(6)]
    gate = fake.gates[images[0]] = threading.Event()
    opener = threading.Thread(target=lambda: (fake.wait_for(lambda f: f.ended == 5), gate.set()))
    opener.start()
    parts = call(fake, "embed_iter", images, client={"chunk_images": 1, "max_in_flight": 6})
    opener.join()
    assert [part.start for part in parts] == list(range(6))
    np.testing.assert_array_equal(parts[0].vectors[0], expected(images[0]))


def test_a_failed_request_ends_the_others_and_says_which_items(fake, call):
    images = [str(i).encode() for i in range(8)]
    # The first two requests are answered, and the third breaks while the fourth hangs.
    hang, breaks = threading.Event(), threading.Event()
    fake.gates |= {images[6]: hang, images[4]: breaks}
    fake.breaks_on = images[4]
    helper = threading.Thread(
        target=lambda: (fake.wait_for(lambda f: f.running == 2 and f.ended == 2), breaks.set())
    )
    helper.start()
    with pytest.raises(trunkline.Internal) as caught:
        call(
            fake,
            "embed",
            images,
            client={"chunk_images": 2, "max_in_flight": 4},
            then=lambda: fake.wait_for(lambda f: f.cancelled == 1),
        )
    helper.join()
    assert caught.value.items == range(4, 6)
    assert "items 4 to 5" in str(caught.value)
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    hang.set()


def test_what_was_answered_before_a_failure_is_delivered(fake):
    images = [str(i).encode() for i in range(4)]
    fake.breaks_on = images[2]
    read = []

    def consume():
        with trunkline.Client(fake.target, chunk_images=1, max_in_flight=1) as client:
            read.extend(part.start for part in client.embed_iter(images))

    with pytest.raises(trunkline.Internal):
        consume()
    assert read == [0, 1]


def test_an_error_of_the_callers_own_iterator_passes_through_and_ends_the_rest(fake, call):
    gate = fake.gates[b"0"] = threading.Event()

    def plain():
        yield b"0"
        fake.wait_for(lambda f: f.running == 1)
        raise KeyError("mine")

    async def awaited():
        yield b"0"
        await asyncio.to_thread(fake.wait_for, lambda f: f.running == 1)
        raise KeyError("mine")

    images = plain() if call.kind == "sync" else awaited()
    with pytest.raises(KeyError, match="mine"):
        call(
            fake,
            "embed",
            images,
            client={"chunk_images": 1},
            then=lambda: fake.wait_for(lambda f: f.cancelled == 1),
        )
    gate.set()


def test_leaving_early_ends_what_is_on_its_way(fake, call):
    first, others = threading.Event(), threading.Event()
    fake.gates |= {b"0": first, b"1": others, b"2": others, b"3": others}
    opener = threading.Thread(target=lambda: (fake.wait_for(lambda f: f.running == 4), first.set()))
    opener.start()
    parts = call(
        fake,
        "embed_iter",
        endless([]),
        take=1,
        client={"chunk_images": 1, "max_in_flight": 4},
        then=lambda: fake.wait_for(lambda f: f.cancelled == 3),
    )
    opener.join()
    others.set()
    assert len(parts) == 1
    assert len(fake.requests) == 4


def test_closing_a_client_ends_its_calls(fake):
    gate = fake.gates[b"0"] = threading.Event()
    client = trunkline.Client(fake.target)
    caught: list[BaseException] = []

    def embed() -> None:
        try:
            client.embed(b"0")
        except trunkline.TrunklineError as error:
            caught.append(error)

    thread = threading.Thread(target=embed)
    thread.start()
    fake.wait_for(lambda f: f.running == 1)
    client.close()
    thread.join()
    gate.set()
    assert [type(error) for error in caught] == [trunkline.Cancelled]


def test_closing_a_client_wakes_a_call_that_pauses(fake, refusal):
    fake.refusals.append(refusal(grpc.StatusCode.UNAVAILABLE))
    pausing = threading.Event()

    def wait(event: threading.Event, _: float) -> bool:
        pausing.set()
        return event.wait(30)

    client = trunkline.Client(fake.target, _rim=Rim(wait=wait))
    caught: list[BaseException] = []

    def embed() -> None:
        try:
            client.embed(b"0")
        except trunkline.TrunklineError as error:
            caught.append(error)

    thread = threading.Thread(target=embed)
    thread.start()
    assert pausing.wait(30)
    client.close()
    thread.join()
    assert [type(error) for error in caught] == [trunkline.Cancelled]


def test_closing_an_async_client_ends_its_calls_without_cancelling_the_caller(fake):
    gate = fake.gates[b"0"] = threading.Event()

    async def main() -> None:
        client = trunkline.AsyncClient(fake.target)
        task = asyncio.create_task(client.embed(b"0"))
        await asyncio.to_thread(fake.wait_for, lambda f: f.running == 1)
        await client.close()
        with pytest.raises(trunkline.Cancelled):
            await task
        gate.set()

    asyncio.run(main())


def test_cancelling_the_task_cancels_the_request(fake):
    gate = fake.gates[b"0"] = threading.Event()

    async def main() -> None:
        async with trunkline.AsyncClient(fake.target) as client:
            task = asyncio.create_task(client.embed(b"0"))
            await asyncio.to_thread(fake.wait_for, lambda f: f.running == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(fake.wait_for, lambda f: f.cancelled == 1)
            gate.set()

    asyncio.run(main())


def test_a_closed_client_says_so(fake):
    client = trunkline.Client(fake.target)
    client.close()
    client.close()
    for attempt in (lambda: client.embed(b"a"), client.models, lambda: client.embed([])):
        with pytest.raises(RuntimeError, match="closed"):
            attempt()
    assert "closed" in repr(client)


def test_threads_may_share_a_client(fake, expected):
    results: dict[int, trunkline.EmbedResult] = {}
    with trunkline.Client(fake.target, chunk_images=3, max_in_flight=2) as client:

        def work(number: int) -> None:
            results[number] = client.embed([f"{number} {i}".encode() for i in range(20)])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert fake.most_running <= 2
    for number, result in results.items():
        np.testing.assert_array_equal(result.vectors, [expected(f"{number} {i}".encode()) for i in range(20)])
    assert len(results) == 6


def test_each_channel_is_a_connection_of_its_own(fake):
    with trunkline.Client(fake.target, channels=3, chunk_images=1) as client:
        client.embed([str(i).encode() for i in range(12)])
    assert len(fake.peers) == 3
