-- include: base fenced activities limiting relimiting
-- Remove a limit; return 1 if there was one. ARGV: nonce, again, source, new version, kind, name.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before
end
local kind, name = ARGV[5], ARGV[6]
local field = kind .. ':' .. name
local stored = redis.call('HGET', P .. 'limits', field)
if not stored then
  return 0
end
redis.call('HDEL', P .. 'limits', field)
redis.call('HSET', P .. 'limits', '=version', ARGV[4])
redis.call('DEL', P .. 'limit:' .. field)
if kind == 'workflow' then
  redis.call('DEL', P .. 'admitted:' .. name)
else
  forget_keys(stored)
end
publish(ARGV[3])
return answer(ARGV[1], 1)
