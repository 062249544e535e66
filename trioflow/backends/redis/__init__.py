"""The store in Redis 6 or newer, or in Valkey: Lua scripts, and what calls them."""
