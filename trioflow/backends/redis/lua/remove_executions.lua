-- include: base fenced activities instances
-- Remove ended executions with their turns, those first that ended first; return how many.
-- ARGV: nonce, again, source, ended before, limit.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end
local removed = 0
local old = redis.call('ZRANGEBYSCORE', P .. 'ended', '-inf', '(' .. ARGV[4], 'LIMIT', 0, ARGV[5])
for _, token in ipairs(old) do
  local number, id = string.match(token, '^(%d+):(.*)$')
  -- The last execution is not kept here, but an older trioflow leaves such when it removes one.
  local present = tonumber(redis.call('HGET', P .. 'i:' .. id, 'execution') or 0)
  if tonumber(number) < present then
    drop_execution(id, number)
    removed = removed + 1
  else
    redis.call('HDEL', P .. 'e:' .. id, number)
    redis.call('ZREM', P .. 'ended', token)
  end
end
return answer(ARGV[1], { removed })[1]
