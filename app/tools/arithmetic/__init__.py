"""A calculator: text in, the exact or the nearest number out, every step bounded, no eval."""
