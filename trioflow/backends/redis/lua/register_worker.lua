-- include: base
-- Store the row of a new worker. ARGV: nonce, again, source, worker, name.

redis.call('ZADD', P .. 'workers', now, ARGV[4])
redis.call('HSET', P .. 'names', ARGV[4], ARGV[5])
return 1
