-- include: base activities instances workers
-- Expire one worker whose heartbeat is too old, or whose row is gone.
-- ARGV: nonce, again, source, lease. Returns its id, or ''.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end
local limit = '(' .. exact(now - tonumber(ARGV[4]))
local worker = redis.call('ZRANGEBYSCORE', P .. 'workers', '-inf', limit, 'LIMIT', 0, 1)[1]
  or rowless()
if not worker then
  return ''
end
remove_worker(worker, true)
publish(ARGV[3])
return answer(ARGV[1], { worker })[1]
