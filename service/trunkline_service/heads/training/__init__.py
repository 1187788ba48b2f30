"""What a head learns from: labelled embeddings, their folds, their duplicates."""
