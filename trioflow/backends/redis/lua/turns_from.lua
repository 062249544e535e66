-- include: base
-- Return some turns of an execution. ARGV: id, execution, the first number, the last.

return redis.call('LRANGE', turns_key(ARGV[1], ARGV[2]), ARGV[3], ARGV[4])
