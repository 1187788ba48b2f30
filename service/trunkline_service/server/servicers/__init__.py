"""Servicers: convert, call the workspace, convert."""
