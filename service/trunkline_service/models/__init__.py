"""Exported backbones: cards, identity, the repository on disk, sessions, live models."""
