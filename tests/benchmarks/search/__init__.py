"""Searches beside raw FAISS, hnswlib and usearch: one Markdown table of ratios, from one command.

    python -m tests.benchmarks.search [--quick] [--only flat|large|fresh|refresh] [--rows N] [--flowers DATA]
                                      [--peers PYTHON] [--home FOLDER] [--json FILE]

Flat: 100,000 x 384, the same arrays and threads as FAISS's flat index; one query over gRPC.
Large: 1,000,000 x 128, clustered, and with ``--flowers`` the real embeddings of that data folder's collection
`flowers` tiled with noise. An index is built and tuned to recall@10 of 0.99; its throughput beside comparing all,
under filters, and by Lance's own index. ``--peers`` names an interpreter with hnswlib and usearch; each runs in a
process of its own, at the least effort that reaches the same recall.
Fresh: 1,000 rows at a time are added by another process to a served collection while it is searched.
Refresh: what asking the store for a newer version costs a search, in a folder and in moto's S3.
``--home`` keeps the collections that were made, which takes minutes; ``--rows`` is the size of the large ones.
"""
