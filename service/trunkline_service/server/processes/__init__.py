"""Several processes as one server: a supervisor, the fronts, the process of the device, that of the data."""
