"""Collections and other people's files: Parquet, and NumPy matrices with their ids."""
