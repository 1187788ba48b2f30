"""Heads: small models over the embeddings of one space.

Arrays and labels in, a folder with ``head.onnx`` and ``card.json`` out::

    data.TrainingSet -> fit.fit("logistic", ...) -> fitted.FittedHead
    registry.HeadRegistry.save(...) -> card.HeadCard
    registry.HeadRegistry.load("flowers@3") -> predict.LoadedHead

Heads know nothing of collections but their name and version. Heavy libraries (scikit-learn, onnx,
ONNX Runtime) load on first use.
"""
