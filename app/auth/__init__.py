"""Who is asking and what they may do: principals, keys, tokens, limits; no HTTP."""
