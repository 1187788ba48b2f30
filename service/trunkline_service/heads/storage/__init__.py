"""Where heads live: versions, aliases, and the pointer to the one that serves."""
