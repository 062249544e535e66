-- include: base
-- Return what the store knows of its last move, or ''.

return redis.call('HGET', P .. 'fence', 'fence') or ''
