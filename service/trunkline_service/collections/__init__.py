"""Collections: named, versioned storage of embeddings of one space, kept in Lance datasets."""
