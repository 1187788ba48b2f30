"""Collections larger than memory, searched by Lance's own index where they are stored."""
