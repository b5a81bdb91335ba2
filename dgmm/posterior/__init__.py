"""b | y: its modes and draws."""
