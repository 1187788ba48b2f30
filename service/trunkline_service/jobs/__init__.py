"""Resumable runs that embed a source into a collection."""
