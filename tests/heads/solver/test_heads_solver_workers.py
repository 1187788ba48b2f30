from __future__ import annotations

from threadpoolctl import threadpool_info, threadpool_limits

from trunkline_service.heads.solver.workers import workers


def blas_threads() -> set[int]:
    """Of NumPy's BLAS, which fits use; packages that other tests load bring BLAS of their own."""
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return {library["num_threads"] for library in found if "numpy" in library["filepath"]}


def test_overlapping_fits_leave_blas_as_it_was() -> None:
    with threadpool_limits(2, "blas"):
        first, second = workers(), workers()
        first.__enter__()
        assert blas_threads() == {1}
        second.__enter__()
        first.__exit__(None, None, None)
        assert blas_threads() == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == {2}
