-- include: base
-- Return number and value of each message in an inbox, one after the other. ARGV: instance.

return redis.call('HGETALL', P .. 'x:' .. ARGV[1])
