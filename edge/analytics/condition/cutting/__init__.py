"""Machine tools: chatter, and tool wear operation by operation."""
