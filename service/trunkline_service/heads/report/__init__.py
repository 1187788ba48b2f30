"""An evaluation for people: JSON and one self-contained HTML page."""
