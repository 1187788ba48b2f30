"""Heads as scikit-learn estimators; importing this imports scikit-learn."""

from trunkline_service.heads.estimator.classifier import TrunklineClassifier

__all__ = ["TrunklineClassifier"]
