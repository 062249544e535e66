-- include: base
-- Store the row of a new worker. ARGV: nonce, again, source, worker, name, what it serves: its queues,
-- those of its activities, its lease and its version.

redis.call('ZADD', P .. 'workers', now, ARGV[4])
redis.call('HSET', P .. 'names', ARGV[4], ARGV[5])
redis.call('HSET', P .. 'serves', ARGV[4], ARGV[6])
redis.call('HSET', P .. 'started', ARGV[4], now_exact)
return 1
