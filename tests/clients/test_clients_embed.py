"""Embedding over a real server: every kind of input, order, numbering, dtypes, limits."""

from __future__ import annotations

import io
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

import trunkline


def tensor_content(array: np.ndarray) -> bytes:
    return b"tensor" + repr(list(array.shape)).encode() + array.tobytes()


def photo(seed: int, height: int = 4, width: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_two_thousand_mixed_items_keep_their_order_and_numbering(fake, call, expected, tmp_path):
    images, contents, broken = [], [], {}
    for i in range(2000):
        data = f"image {i}".encode()
        match i % 9:
            case 0:
                path = tmp_path / f"{i}.jpg"
                path.write_bytes(data)
                images.append(path if i % 2 else str(path))
            case 1:
                images.append(bytearray(data))
            case 2:
                images.append(memoryview(data))
            case 3:
                images.append(photo(i))
                data = tensor_content(photo(i))
            case 4:
                images.append(photo(i)[:, :, 0])
                data = tensor_content(np.repeat(photo(i)[:, :, :1], 3, axis=2))
            case 5:
                images.append(Image.fromarray(photo(i)))
                data = tensor_content(photo(i))
            case 6:
                images.append(tmp_path / f"missing {i}.jpg")
                broken[i] = ("unreadable_file", grpc.StatusCode.NOT_FOUND)
            case 7:
                images.append(b"bad " + data)
                broken[i] = ("corrupt_image", grpc.StatusCode.INVALID_ARGUMENT)
            case _:
                images.append(data)
        contents.append(data)

    result = call(fake, "embed", images, client={"chunk_images": 7, "channels": 3})

    assert len(result) == 2000
    assert result.vectors.shape == (2000, 8)
    assert result.vectors.dtype == np.float32
    assert {f.index: (f.reason, f.code) for f in result.errors} == broken
    assert [f.index for f in result.errors] == sorted(broken)
    assert [i for i, good in enumerate(result.ok) if not good] == sorted(broken)
    for i, content in enumerate(contents):
        if i in broken:
            assert np.isnan(result.vectors[i]).all()
        else:
            np.testing.assert_array_equal(result.vectors[i], expected(content))
    assert result.errors[0].source == str(tmp_path / "missing 6.jpg")
    assert result.inputs[0] == str(tmp_path / "0.jpg")


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "pillow", "array", "grey"])
def test_a_lone_image_is_one_row(fake, call, expected, tmp_path, kind):
    path = tmp_path / "one.jpg"
    path.write_bytes(b"one")
    pixels = photo(1)
    grey = np.repeat(pixels[:, :, :1], 3, axis=2)
    image, content = {
        "path": (path, b"one"),
        "text": (str(path), b"one"),
        "bytes": (b"one", b"one"),
        "pillow": (Image.fromarray(pixels), tensor_content(pixels)),
        "array": (pixels, tensor_content(pixels)),
        "grey": (pixels[:, :, 0], tensor_content(grey)),
    }[kind]
    result = call(fake, "embed", image)
    np.testing.assert_array_equal(result.vectors, expected(content)[None])


def test_an_array_of_four_axes_is_a_batch(fake, call, expected):
    batch = np.stack([photo(seed) for seed in range(5)])
    result = call(fake, "embed", batch)
    np.testing.assert_array_equal(result.vectors, [expected(tensor_content(image)) for image in batch])


def test_an_array_of_paths_is_a_list_of_paths(fake, call, expected, tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
    result = call(fake, "embed", np.array([str(tmp_path / "a"), str(tmp_path / "b")]))
    np.testing.assert_array_equal(result.vectors, [expected(b"a"), expected(b"b")])


def test_float16_stays_float16(fake, call, expected):
    result = call(fake, "embed", [b"one", b"bad"], dtype="float16")
    assert result.vectors.dtype == np.float16
    np.testing.assert_array_equal(result.vectors[0], expected(b"one").astype(np.float16))
    assert np.isnan(result.vectors[1]).all()
    assert fake.requests[0].type == 2


@pytest.mark.parametrize("empty", [[], (), iter(()), np.empty((0, 4, 4, 3), np.uint8)])
def test_nothing_gives_nothing_of_the_right_width(fake, empty):
    with trunkline.Client(fake.target) as client:
        result = client.embed(empty)
    assert result.vectors.shape == (0, 8)
    assert result.space_id == fake.space_id
    assert result.errors == []
    assert fake.requests == []


def test_nothing_for_a_model_that_cannot_be_asked_for_is_still_nothing(fake, call):
    assert call(fake, "embed", [], "other").vectors.shape == (0, 0)
    assert call(fake, "embed", [], dtype="float16").vectors.dtype == np.float16


def test_an_empty_input_yields_no_chunk(fake, call):
    assert call(fake, "embed_iter", []) == []


def test_only_failures_still_have_the_models_width(fake, call, tmp_path):
    result = call(fake, "embed", [tmp_path / "no", tmp_path / "neither"])
    assert result.vectors.shape == (2, 8)
    assert np.isnan(result.vectors).all()
    assert not result.ok.any()
    assert str(result.model) == "fake@3"
    assert fake.requests == []


def test_a_chunk_of_failures_among_others_takes_their_width(fake, call, tmp_path):
    fake.refuse_models = None
    images = [b"a", tmp_path / "no", b"c"]
    result = call(fake, "embed", images, client={"chunk_images": 1})
    assert result.vectors.shape == (3, 8)
    assert list(result.ok) == [True, False, True]


def test_chunks_carry_the_inputs_numbering(fake, call):
    images = [b"bad" if i % 4 == 3 else str(i).encode() for i in range(10)]
    parts = call(fake, "embed_iter", images, client={"chunk_images": 4})
    assert [(part.start, len(part)) for part in parts] == [(0, 4), (4, 4), (8, 2)]
    assert [[f.index for f in part.errors] for part in parts] == [[3], [7], []]
    assert list(parts[1].ok) == [True, True, True, False]


def test_the_result_says_what_made_it(fake, call):
    result = call(fake, "embed", [b"a"] * 5, "fake@3", lane="bulk", client={"chunk_images": 2})
    assert result.model == trunkline.ModelRef("fake", 3, fake.space_id, "ar1-x", 8, "exact")
    assert result.timings == trunkline.Timings(1, 2, 3)
    assert {(r.model, r.lane) for r in fake.requests} == {("fake@3", 2)}


def test_another_space_than_expected_is_refused(fake, call):
    with pytest.raises(trunkline.SpaceMismatch, match="expected sp1-other") as caught:
        call(fake, "embed", b"a", expect_space="sp1-other")
    assert caught.value.reason == "space_mismatch"
    assert isinstance(caught.value, trunkline.FailedPrecondition)


def test_a_model_replaced_under_way_does_not_mix_spaces(fake, call):
    def images():
        for i in range(40):
            if i == 20:
                fake.wait_for(lambda f: f.ended >= 1)
                fake.space_id = "sp1-new"
            yield str(i).encode()

    with pytest.raises(trunkline.SpaceMismatch, match="sp1-new") as caught:
        call(fake, "embed", images(), client={"chunk_images": 10, "max_in_flight": 1})
    assert caught.value.items is not None


def test_requests_stay_within_the_servers_limits(serve, call, expected):
    # The server refuses larger messages for real, so that an estimate that is too low shows.
    fake = serve(max_message_bytes=10_000, max_images=5)
    images = [bytes([i % 256]) * (i * 37 % 4000) for i in range(120)]
    result = call(fake, "embed", images)
    np.testing.assert_array_equal(result.vectors, [expected(image) for image in images])
    assert max(len(r.images) for r in fake.requests) == 5
    assert max(r.ByteSize() for r in fake.requests) <= 10_000
    assert sum(r.ByteSize() for r in fake.requests) / len(fake.requests) > 4_000


@pytest.mark.parametrize("kind", ["bytes", "path", "array", "pillow"])
def test_an_image_larger_than_a_request_fails_alone(serve, call, expected, tmp_path, kind):
    fake = serve(max_message_bytes=10_000)
    path = tmp_path / "large.jpg"
    path.write_bytes(b"x" * 10_001)
    large = {
        "bytes": b"x" * 10_001,
        "path": path,
        "array": photo(0, 60, 60),
        "pillow": Image.fromarray(photo(0, 60, 60)),
    }
    result = call(fake, "embed", [b"small", large[kind], b"other"])
    (failure,) = result.errors
    assert (failure.index, failure.reason) == (1, "message_too_large")
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    size = "10,800" if kind in ("array", "pillow") else "10,001"
    assert size in failure.message
    assert "max_message_bytes" in failure.message
    np.testing.assert_array_equal(result.vectors[2], expected(b"other"))


def test_the_limits_are_asked_for_once(fake):
    with trunkline.Client(fake.target) as client:
        assert fake.infos == 0
        for _ in range(3):
            client.embed([b"a", b"b"])
    assert fake.infos == 1


def test_a_reused_buffer_is_read_before_it_changes(fake, call, expected):
    buffer = np.zeros((2, 2, 3), np.uint8)

    def frames():
        for value in range(6):
            buffer[:] = value
            yield buffer

    result = call(fake, "embed", frames(), client={"chunk_images": 4})
    contents = [tensor_content(np.full((2, 2, 3), value, np.uint8)) for value in range(6)]
    np.testing.assert_array_equal(result.vectors, [expected(content) for content in contents])


@pytest.mark.parametrize(
    ("image", "reason", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), "invalid_tensor", "float32"),
        (np.zeros((4, 4, 4), np.uint8), "invalid_tensor", r"\(4, 4, 4\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), "invalid_tensor", "by itself"),
        (np.zeros((0, 4, 3), np.uint8), "invalid_tensor", "shape"),
        (None, "unsupported_input", "NoneType"),
        (7, "unsupported_input", "int"),
        ("https://example.org/cat.jpg", "unreadable_file", "not fetched"),
        ("nul\0byte", "unreadable_file", "null byte"),
        (Path(__file__).parent, "unreadable_file", "folder"),
        (io.BytesIO(b"x"), "unsupported_input", "its path or its bytes"),
    ],
)
def test_what_cannot_be_sent_fails_alone_and_says_why(fake, call, expected, image, reason, words):
    result = call(fake, "embed", [b"first", image, b"last"])
    (failure,) = result.errors
    assert (failure.index, failure.reason) == (1, reason)
    with pytest.raises(trunkline.ItemErrors, match=words):
        result.raise_for_errors()
    np.testing.assert_array_equal(result.vectors[[0, 2]], [expected(b"first"), expected(b"last")])


def test_an_open_file_is_one_failure_and_not_its_lines(fake, call, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"1\n2\n3\n")
    with path.open("rb") as file:
        result = call(fake, "embed", file)
    assert [f.reason for f in result.errors] == ["unsupported_input"]


@pytest.mark.parametrize("images", [None, 7, 2.5])
def test_no_image_and_no_iterable_is_a_type_error(fake, call, images):
    with pytest.raises(TypeError, match="one image or an iterable"):
        call(fake, "embed", images)


@pytest.mark.parametrize(("name", "value"), [("dtype", "int8"), ("lane", "fast")])
def test_words_that_do_not_exist_are_refused_here(fake, call, name, value):
    with pytest.raises(trunkline.InvalidRequest, match=name):
        call(fake, "embed", b"a", **{name: value})
    assert fake.requests == []


def test_asynchronous_images_are_read_too(fake, expected):
    import asyncio

    async def images():
        for i in range(10):
            await asyncio.sleep(0)
            yield str(i).encode()

    async def main():
        async with trunkline.AsyncClient(fake.target, chunk_images=3) as client:
            return await client.embed(images())

    result = asyncio.run(main())
    np.testing.assert_array_equal(result.vectors, [expected(str(i).encode()) for i in range(10)])
