-- include: base activities
-- Renew a worker's row. ARGV: worker. Returns: now, 1 or 0, then the activities to be cancelled.

local worker = ARGV[1]
if not alive(worker) then
  return { exact(now), 0 }
end
redis.call('ZADD', P .. 'workers', 'XX', now, worker)
local reply = { exact(now), 1 }
for _, token in ipairs(redis.call('SMEMBERS', P .. 'marked:' .. worker)) do
  reply[#reply + 1] = { parse_token(token) }
end
return reply
